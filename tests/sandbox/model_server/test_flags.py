"""Command line and version policy of the model server: no process, no TensorFlow."""

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.model_server.config import read_config
from sandbox.model_server.flags import (
    WITHOUT_EFFECT,
    FlagError,
    ServerFlags,
    channel_arguments,
    parse_flags,
    to_arguments,
    usage,
    without_effect,
)
from sandbox.model_server.policy import ALL_VERSIONS, Phase, Plan, VersionPolicy, plan, versions_of

MODEL = "--model_base_path=/models/ctr"
VERSIONS = st.integers(0, 5)
POLICIES = st.one_of(
    st.builds(VersionPolicy, st.integers(1, 3)),
    st.just(ALL_VERSIONS),
    st.builds(lambda chosen: VersionPolicy(None, chosen), st.frozensets(VERSIONS, min_size=1)),
)


def test_defaults_are_those_of_tensorflow_model_server() -> None:
    flags, unknown = parse_flags([MODEL])
    assert (flags.port, flags.model_name, flags.max_num_load_retries) == (8500, "default", 5)
    assert (flags.file_system_poll_wait_seconds, flags.enable_model_warmup) == (1, True)
    assert not flags.enable_serialization_as_tensor_content
    assert not unknown


def test_values_of_each_kind_are_read_and_the_last_of_equal_flags_counts() -> None:
    flags, _ = parse_flags([MODEL, "--port=1", "--port=2", "--enable_model_warmup=false", "--model_name=a=b"])
    assert (flags.port, flags.enable_model_warmup, flags.model_name) == (2, False, "a=b")
    switches, _ = parse_flags(["--enable_batching", "--version=1", "--per_process_gpu_memory_fraction=0.5"])
    assert (switches.enable_batching, switches.version, switches.per_process_gpu_memory_fraction) == (True, True, 0.5)


def test_arguments_are_read_back_as_they_were_written() -> None:
    written = to_arguments({"model_base_path": "/m", "port": 7, "enable_model_warmup": False})
    assert parse_flags(written) == (ServerFlags(model_base_path="/m", port=7, enable_model_warmup=False), ())


def test_arguments_that_are_no_flags_are_returned_and_change_nothing() -> None:
    unknown = ("--nope=1", "word", "-grpc_max_threads=2", "--model_name", "m")
    assert parse_flags([MODEL, *unknown]) == (ServerFlags(model_base_path="/models/ctr"), unknown)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--enable_model_warmup=maybe"], "Couldn't interpret value maybe for flag enable_model_warmup."),
        (
            ["--port=", "--grpc_max_threads=many"],
            "Couldn't interpret value  for flag port.\nCouldn't interpret value many for flag grpc_max_threads.",
        ),
        (["--help"], ""),
    ],
)
def test_a_wrong_value_and_help_end_the_server(arguments: list[str], message: str) -> None:
    with pytest.raises(FlagError) as rejection:
        parse_flags([MODEL, *arguments])
    assert str(rejection.value) == message


def test_help_lists_each_flag_with_its_default_type_and_meaning() -> None:
    lines = usage().splitlines()
    assert lines[:2] == ["usage: tensorflow_model_server", "Flags:"]
    assert "\t--port=8500                      \tint32\tTCP port of the gRPC API; 0 turns it off." in lines
    assert len(lines) == 2 + len(fields(ServerFlags))
    assert all(len(line.split("\t")) == 4 for line in lines[2:])


def test_flags_without_effect_are_named_when_they_are_set() -> None:
    flags, _ = parse_flags([MODEL, "--mixed_precision=bfloat16", "--enable_profiler=true", "--enable_batching"])
    assert without_effect(flags) == ("mixed_precision",)


def test_a_flag_that_no_module_reads_is_one_without_effect() -> None:
    folder = Path(sys.modules[ServerFlags.__module__].__file__ or "").parent
    read = set(re.findall(r"flags\.(\w+)", "".join(path.read_text("utf-8") for path in folder.glob("*.py"))))
    assert {flag.name for flag in fields(ServerFlags)} - read <= WITHOUT_EFFECT


def test_numeric_channel_arguments_become_numbers() -> None:
    flags, _ = parse_flags([MODEL, "--grpc_channel_arguments=grpc.max_connection_age_ms=2000,a=b,c=--5,d=2147483648"])
    expected = [("grpc.max_connection_age_ms", 2000), ("a", "b"), ("c", "--5"), ("d", "2147483648")]
    assert channel_arguments(flags) == expected


def test_a_start_that_fails_has_a_line_and_status_255_without_loading_tensorflow() -> None:
    command = [sys.executable, "-m", "sandbox.model_server", MODEL, "--port=0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 255
    assert done.stderr.splitlines() == [
        "Failed to start server. Error: INVALID_ARGUMENT: "
        "At least one of server_options.grpc_port or server_options.grpc_socket_path must be set."
    ]


def test_of_two_names_of_one_version_the_last_one_counts() -> None:
    assert versions_of(["1", "00000123", "tmp-4", "123", "-1", " 1"]) == {-1: "-1", 1: "1", 123: "123"}


@pytest.mark.parametrize(
    ("policy", "aspired"),
    [
        (VersionPolicy(), {9}),
        (VersionPolicy(latest=2), {7, 9}),
        (ALL_VERSIONS, {1, 7, 9}),
        (VersionPolicy(None, frozenset({1, 8})), {1}),
        (VersionPolicy(None, frozenset()), set()),
    ],
)
def test_each_policy_aspires_to_its_versions(policy: VersionPolicy, aspired: set[int]) -> None:
    assert policy.aspired([1, 7, 9]) == aspired


def test_a_file_that_sets_nothing_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    flags, _ = parse_flags([f"--model_config_file={file}"])
    file.write_text("# nothing\n", encoding="utf-8")
    assert read_config(flags) is None
    file.write_text("model_config_list { }", encoding="utf-8")
    assert read_config(flags) == ()
    policy = "model_version_policy { specific { } }"
    file.write_text(
        f'model_config_list {{ config {{ name: "a" base_path: "/a" model_platform: "tensorflow" {policy} }} }}'
    )
    configs = read_config(flags)
    assert configs is not None
    assert configs[0].policy.aspired([1, 2]) == set()


def test_the_old_version_stays_until_the_new_one_is_ready() -> None:
    latest = VersionPolicy()
    assert plan([1, 2], {1: Phase.READY}, latest) == Plan(load=(2,))
    assert plan([1, 2], {1: Phase.READY, 2: Phase.LOADING}, latest) == Plan()
    assert plan([1, 2], {1: Phase.READY, 2: Phase.FAILED}, latest) == Plan()
    assert plan([1, 2], {1: Phase.READY, 2: Phase.READY}, latest) == Plan(unload=(1,))
    assert plan([], {2: Phase.READY}, latest) == Plan(unload=(2,))
    assert plan([1], {1: Phase.UNLOADING}, latest) == Plan()


@settings(deadline=None)
@given(on_disk=st.frozensets(VERSIONS), held=st.dictionaries(VERSIONS, st.sampled_from(Phase)), policy=POLICIES)
def test_a_plan_keeps_the_last_version_and_terminates(
    on_disk: frozenset[int], held: dict[int, Phase], policy: VersionPolicy
) -> None:
    todo = plan(on_disk, held, policy)
    aspired = policy.aspired(on_disk)
    ready = {version for version, phase in held.items() if phase is Phase.READY}
    assert not {*todo.load} & held.keys()
    assert {*todo.load} <= aspired
    assert {*todo.unload} <= ready - aspired
    if aspired and ready:
        assert ready - {*todo.unload}
    settled = {version: phase for version, phase in held.items() if version not in todo.forget}
    for version in todo.unload:
        settled[version] = Phase.UNLOADING
    for version in todo.load:
        settled[version] = Phase.LOADING
    assert plan(on_disk, settled, policy) == Plan()
