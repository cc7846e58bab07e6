"""The flags of a model server's command line."""

import pytest

from streamer.diagnosis.server_flags import flag_findings, parse_flags
from streamer.settings import Settings

GOOD = "--grpc_max_threads=64 --num_load_threads=1 --tensorflow_intra_op_parallelism=1"


def found(text: str | None, callers: int = 12, **labels: str) -> list[tuple[str, str]]:
    """Severity and remedy of each finding."""
    settings = Settings.model_validate({"predictor": {"labels": labels}})
    flags = None if text is None else parse_flags(text)
    return [(f.severity, f.remedy) for f in flag_findings(settings, flags, callers)]


def test_a_command_line_is_read_as_it_stands() -> None:
    text = "/usr/bin/tensorflow_model_server --port=8500 --enable_batching --model_name 'a b' --port=9000 --x=a=b"
    assert parse_flags(text) == {"port": "9000", "enable_batching": "true", "model_name": "true", "x": "a=b"}
    with pytest.raises(ValueError, match="quotation"):
        parse_flags("--name='a")


@pytest.mark.parametrize("text", ["", " \n"])
def test_no_command_line_is_not_a_server_without_flags(text: str) -> None:
    """`ps` prints nothing for a server in a container or on another machine."""
    with pytest.raises(ValueError, match=r"^empty: there is no such process on this machine$"):
        parse_flags(text)
    assert parse_flags("tensorflow_model_server") == {}


def test_good_flags_have_no_finding() -> None:
    assert found(GOOD) == []


def test_unknown_flags_are_advice_with_the_numbers() -> None:
    ((severity, remedy),) = found(None)
    assert (severity, "--server-flags" in remedy) == ("advice", True)


@pytest.mark.parametrize(
    ("more", "severity", "remedy"),
    [
        ("--grpc_max_threads=8", "error", "set --grpc_max_threads=24 or more"),
        ("--grpc_max_threads=12", "warning", "set --grpc_max_threads=24 or more"),
        ("--grpc_max_threads=", "advice", "set --grpc_max_threads=24 or more"),
        ("--num_load_threads=0", "warning", "set --num_load_threads=1"),
        ("--file_system_poll_wait_seconds=0", "warning", "set 1 or more seconds"),
        ("--file_system_poll_wait_seconds=-1", "warning", "set 1 or more seconds"),
        ("--enable_model_warmup=false", "warning", "remove it"),
        ("--enable_batching", "error", "remove it: the scorer makes batches itself"),
        ("--tensorflow_intra_op_parallelism=0", "advice", "measure --tensorflow_intra_op_parallelism=1"),
    ],
)
def test_a_bad_flag_is_named(more: str, severity: str, remedy: str) -> None:
    assert found(f"{GOOD} {more}") == [(severity, remedy)]


def test_rest_needs_its_port_and_has_no_limit_of_calls() -> None:
    rest = Settings.model_validate({"predictor": {"protocol": "rest"}})
    flags = parse_flags(f"{GOOD} --grpc_max_threads=1")
    assert [f.remedy for f in flag_findings(rest, flags, 12)] == ["set --rest_api_port=8501"]
    assert list(flag_findings(rest, {**flags, "rest_api_port": "8501"}, 12)) == []


def test_batching_of_single_models_is_accepted() -> None:
    assert found(f"{GOOD} --enable_batching --enable_per_model_batching_parameters") == []


def test_labels_need_a_polled_file_that_may_name_them_early() -> None:
    assert [remedy for _, remedy in found(GOOD, ctr="stable")] == [
        "set --model_config_file_poll_wait_seconds=1",
        "set --allow_version_labels_for_unavailable_models",
    ]
    flags = "--model_config_file_poll_wait_seconds=1 --allow_version_labels_for_unavailable_models"
    assert found(f"{GOOD} {flags}", ctr="stable") == []
