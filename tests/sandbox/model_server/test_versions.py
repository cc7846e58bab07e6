"""Versions: served, switched, labelled, warmed up, failed, unloaded; life of the process."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from sandbox.model_server.lean_tensorflow import lean_tensorflow
from sandbox.processes.model_server import ModelServerError, ModelServerProcess
from tests.sandbox.model_server.client import Client, Failure, eventually, tensor

with lean_tensorflow():
    from google.protobuf import text_format
    from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest

# Its timeouts are for a quiet machine, so it is not part of the quick tests.
pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

CONFIG = """
model_config_list {{
  config {{ name: "switch" base_path: "{base}/switch" model_platform: "tensorflow" }}
  config {{
    name: "pair" base_path: "{base}/pair" model_platform: "tensorflow"
    model_version_policy {{ all {{}} }}
    version_labels {{ key: "stable" value: 1 }}
    version_labels {{ key: "canary" value: 2 }}
  }}
  config {{
    name: "pinned" base_path: "{base}/pair" model_type: TENSORFLOW
    model_version_policy {{ specific {{ versions: 1 }} }}
  }}
  config {{ name: "warm" base_path: "{base}/warm" model_platform: "tensorflow" }}
  {more}
}}
"""


@dataclass
class House:
    """A server of several models on a folder that tests can change."""

    base: Path
    models: Path
    server: ModelServerProcess
    client: Client

    def export(self, model: str, version: str, source: str, *, warmup: str | bytes = b"") -> None:
        """Exports a version as exporters should: written under another name, then renamed."""
        partial = self.base / f"partial-{model}-{version}"
        shutil.copytree(self.models / source, partial)
        if warmup:
            (partial / "assets.extra").mkdir()
            content = warmup if isinstance(warmup, bytes) else (self.models / warmup).read_bytes()
            (partial / "assets.extra" / "tf_serving_warmup_requests").write_bytes(content)
        (self.base / model).mkdir(exist_ok=True)
        partial.rename(self.base / model / version)

    def reload(self, more: str = "") -> Failure | None:
        request = ReloadConfigRequest()
        text_format.Parse(CONFIG.format(base=self.base, more=more), request.config)
        return self.client.reload(request)


@pytest.fixture(scope="module")
def house(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    base = tmp_path_factory.mktemp("versions")
    config = base / "models.config"
    config.write_text(CONFIG.format(base=base, more=""), encoding="utf-8")
    flags = {
        "num_load_threads": 1,
        "max_num_load_retries": 1,
        "load_retry_interval_micros": 1000,
        "allow_version_labels_for_unavailable_models": True,
        "enable_serialization_as_tensor_content": True,
    }
    server = ModelServerProcess(config=config, flags=flags, log_path=base / "log")
    house = House(base, tiny_models, server, Client(server.address))
    house.export("switch", "1", "plus_two")
    house.export("pair", "00001", "plus_two")
    house.export("pair", "2", "plus_three")
    house.export("warm", "1", "plus_two", warmup="warmup_count")
    with server:
        yield house
    house.client.close()


def test_versions_are_served_side_by_side_and_the_newest_is_the_default(house: House) -> None:
    eventually(lambda: house.client.states("pair") == {2: "AVAILABLE", 1: "AVAILABLE"}, "both versions available")
    assert house.client.line(2.0, "pair", version=1) == 3.0
    assert house.client.line(2.0, "pair", version=2) == 4.0
    assert house.client.line(2.0, "pair") == 4.0
    assert house.client.line(2.0, "pinned") == 3.0


def test_a_label_selects_its_version(house: House) -> None:
    eventually(lambda: len(house.client.states("pair")) == 2, "both versions known")
    assert house.client.line(2.0, "pair", label="stable") == 3.0
    assert house.client.line(2.0, "pair", label="canary") == 4.0
    unknown = house.client.line(2.0, "pair", label="other")
    assert unknown == Failure(grpc.StatusCode.INVALID_ARGUMENT, "Unrecognized servable version label: other")
    assert house.client.status("pair", label="stable") == house.client.status("pair"), "no label is looked at here"


def test_outputs_are_raw_bytes_with_the_flag(house: House) -> None:
    response = house.client.raw_predict(house.client.request("switch", {"x": tensor([[2.0]])}))
    assert len(response.outputs["y"].tensor_content) == 4
    assert not response.outputs["y"].float_val


def test_status_of_one_version_and_of_unknown_versions(house: House) -> None:
    assert house.client.status("pair", 1) == {1: ("AVAILABLE", 0, "")}
    missing = house.client.status("pair", 9)
    assert missing == Failure(grpc.StatusCode.NOT_FOUND, "Could not find version 9 of model pair")
    nobody = house.client.status("nobody")
    assert nobody == Failure(grpc.StatusCode.NOT_FOUND, "Could not find any versions of model nobody")


def test_warm_up_requests_run_before_the_first_call(house: House) -> None:
    assert house.client.predict("warm", {}, signature="count") == {"calls": 4}


@pytest.mark.parametrize(
    ("version", "warmup", "code", "text"),
    [
        ("2", b"this is no TFRecord file", 15, "Please verify your warmup data is in TFRecord format"),
        ("3", "warmup_wrong", 9, 'Serving signature key "nothing" not found.'),
    ],
)
def test_a_version_with_a_failed_warm_up_is_not_served_and_has_the_reason(
    house: House, version: str, warmup: str | bytes, code: int, text: str
) -> None:
    house.export("warm", version, "plus_three", warmup=warmup)
    eventually(lambda: house.client.states("warm").get(int(version)) == "END", "the load has failed")
    status = house.client.status("warm", int(version))
    assert isinstance(status, dict)
    assert (status[int(version)][1], text in status[int(version)][2]) == (code, True)
    assert house.client.line(2.0, "warm") == 3.0


def test_a_broken_model_fails_with_its_reason_after_its_retries_while_the_old_one_serves(house: House) -> None:
    broken = house.base / "warm" / "4"
    broken.mkdir()
    eventually(lambda: house.client.states("warm").get(4) == "END", "the load has failed")
    status = house.client.status("warm", 4)
    assert isinstance(status, dict)
    assert (status[4][1], status[4][2]) == (
        5,
        "Specified file path does not appear to contain a SavedModel bundle (should have a file called "
        f"`saved_model.pb`)\nSpecified file path: {broken}",
    )
    log = house.server.log_path.read_text(encoding="utf-8")
    assert log.count("Servable: {name: warm version: 4} load failure: NOT_FOUND") == 2
    assert house.client.line(2.0, "warm") == 3.0


def test_a_version_without_its_variables_is_available_and_each_call_fails(house: House) -> None:
    partial = shutil.copytree(house.models / "plus_three", house.base / "half")
    shutil.rmtree(partial / "variables")
    partial.rename(house.base / "pair" / "3")
    eventually(lambda: house.client.states("pair").get(3) == "AVAILABLE", "it has loaded")
    failure = house.client.line(2.0, "pair", version=3)
    assert isinstance(failure, Failure)
    assert failure.code is grpc.StatusCode.FAILED_PRECONDITION
    shutil.rmtree(house.base / "pair" / "3")
    eventually(lambda: house.client.states("pair").get(3) == "END", "it is unloaded")


def test_a_file_with_a_number_as_its_name_is_a_version_that_fails(house: House) -> None:
    file = house.base / "pair" / " 04"
    file.touch()
    eventually(lambda: house.client.states("pair").get(4) == "END", "the load has failed")
    text = "Error while attempting to reserve resources to load servable {name: pair version: 4}: "
    assert house.client.status("pair", 4) == {4: ("END", 9, f"{text}{file}; Not a directory")}
    file.unlink()


def test_a_new_version_takes_over_without_a_single_failed_request(house: House) -> None:
    answers: list[float | Failure] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answers.append(house.client.line(2.0, "switch"))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        house.export("switch", "0002", "plus_three")
        eventually(lambda: house.client.states("switch") == {2: "AVAILABLE", 1: "END"}, "version 2 replaces 1")
    finally:
        stop.set()
        thread.join(60.0)
    assert answers.count(3.0) + answers.count(4.0) == len(answers)
    assert answers == sorted(answers, key=str), "an old version answered after the new one"
    gone = house.client.line(2.0, "switch", version=1)
    assert gone == Failure(grpc.StatusCode.NOT_FOUND, "Servable not found for request: Specific(switch, 1)")


def test_an_old_version_is_unloaded_only_after_its_active_call(house: House) -> None:
    house.export("held", "1", "plus_two")
    assert (
        house.reload(f'config {{ name: "held" base_path: "{house.base}/held" model_platform: "tensorflow" }}') is None
    )
    taught = house.client.predict("held", {"steps": tensor(300_000, "int64")}, signature="slow")
    assert taught == {"sum": 300_000 * 299_999 // 2}
    endless = house.client.request("held", {"steps": tensor(10**12, "int64")}, signature="slow")
    inside = house.client.begin_predict(endless, timeout_s=8.0)
    assert house.client.line(2.0, "held") == 3.0
    house.export("held", "2", "plus_three")
    eventually(lambda: house.client.states("held").get(2) == "AVAILABLE", "version 2 available")
    assert house.client.line(2.0, "held") == 4.0
    old = house.client.states("held")[1]
    assert old == "UNLOADING" or inside.done()
    eventually(lambda: house.client.states("held")[1] == "END", "version 1 unloaded")
    assert inside.exception(10.0).code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_reload_adds_and_removes_models_and_moves_labels_only_to_available_versions(house: House) -> None:
    house.export("extra", "5", "plus_three")
    extra = f'config {{ name: "extra" base_path: "{house.base}/extra" model_platform: "tensorflow" %s }}'
    assert house.reload(extra % 'version_labels { key: "a" value: 5 }') is None
    assert house.client.line(2.0, "extra", label="a") == 4.0
    rejected = house.reload(extra % 'version_labels { key: "a" value: 6 }')
    assert rejected == Failure(
        grpc.StatusCode.FAILED_PRECONDITION,
        "Request to assign label to version 6 of model extra, which is not currently available for inference",
    )
    assert house.reload() is None
    eventually(lambda: house.client.states("extra") == {5: "END"}, "the model is gone")
    gone = house.client.line(2.0, "extra")
    assert gone == Failure(grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(extra)")


def test_a_paused_server_answers_again_after_it_is_resumed(house: House) -> None:
    house.server.pause()
    try:
        silent = house.client.line(2.0, "switch", timeout_s=0.5)
        assert isinstance(silent, Failure)
        assert silent.code is grpc.StatusCode.DEADLINE_EXCEEDED
    finally:
        house.server.resume()
    assert isinstance(house.client.line(2.0, "switch"), float)


def test_sigterm_ends_the_server_at_once_and_the_active_call_with_it(house: House) -> None:
    """The last test of this server, which it stops."""
    endless = house.client.request("switch", {"steps": tensor(10**12, "int64")}, signature="slow")
    inside = house.client.begin_predict(endless)
    assert isinstance(house.client.line(2.0, "switch"), float)
    assert house.server.stop() == -signal.SIGTERM
    assert inside.exception(10.0).code() is grpc.StatusCode.UNAVAILABLE


def test_a_model_that_cannot_be_loaded_at_start_ends_the_server_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"garbage")
    server = ModelServerProcess(tmp_path, "bad", log_path=tmp_path / "log", flags={"max_num_load_retries": 0})
    with pytest.raises(ModelServerError, match="exited with status 255") as failure:
        server.start()
    assert "1 servable(s) did not become available: {{{name: bad version: 1} due to error: OUT_OF_RANGE: " in str(
        failure.value
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("improperly formatted file", "Invalid protobuf file: "),
        ('model_config_list { config { name: "a" base_path: "/a" } }', "Illegal setting neither"),
        (
            'model_config_list { config { name: "a" base_path: "a" model_platform: "tensorflow" } }',
            "Expected model a to have an absolute path or URI; got base_path()=a",
        ),
        (
            'model_config_list { config { name: "a" base_path: "/a" model_platform: "tensorflow" '
            'version_labels { key: "l" value: 1 } } }',
            "Request to assign label to version 1 of model a, which is not currently available for inference",
        ),
    ],
)
def test_an_invalid_configuration_is_rejected_at_start(tmp_path: Path, config: str, message: str) -> None:
    file = tmp_path / "models.config"
    file.write_text(config, encoding="utf-8")
    server = ModelServerProcess(config=file, log_path=tmp_path / "log")
    with pytest.raises(ModelServerError, match="exited with status 255") as failure:
        server.start()
    assert message in str(failure.value)


def test_the_server_ends_with_its_parent(tmp_path: Path) -> None:
    """There is no model, so the child waits for one, as TensorFlow Serving does."""
    program = (
        "import sys; from sandbox.processes.model_server import ModelServerProcess as P\n"
        f"p = P({str(tmp_path)!r}, log_path={str(tmp_path / 'log')!r}); p.spawn()\n"
        "p.pause(); print(p.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdin is not None
    with parent:
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    eventually(lambda: not _runs(child), "the child is gone")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
