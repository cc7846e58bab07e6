"""Files that flags name: their values, and the texts of the real server for faulty ones."""

from pathlib import Path

import grpc
import pytest

from sandbox.model_server.batching_parameters import MODEL_FILE, Batching, global_batching, model_batching
from sandbox.model_server.flags import ServerFlags
from sandbox.model_server.status import StatusError
from sandbox.model_server.text_files import InvalidTextError, MonitoringConfig, SslConfig, read_text_file


def flags_of(tmp_path: Path, text: str, *, per_model: bool = False) -> ServerFlags:
    file = tmp_path / "batching.txt"
    file.write_text(text, encoding="utf-8")
    return ServerFlags(
        enable_batching=True, batching_parameters_file=str(file), enable_per_model_batching_parameters=per_model
    )


def test_messages_that_the_package_lacks_are_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text('prometheus_config { enable: true path: "/metrics" }', encoding="utf-8")
    assert read_text_file(file, MonitoringConfig()).prometheus_config.path == "/metrics"
    file.write_text('server_key: "k" server_cert: "c" client_verify: true', encoding="utf-8")
    assert read_text_file(file, SslConfig()).client_verify


def test_a_file_that_cannot_be_read_has_the_text_of_the_real_server(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with pytest.raises(StatusError) as absent:
        read_text_file(file, MonitoringConfig())
    assert (absent.value.code, absent.value.message) == (
        grpc.StatusCode.NOT_FOUND,
        f"{file}; No such file or directory",
    )
    file.touch()
    with pytest.raises(StatusError) as empty:
        read_text_file(file, MonitoringConfig())
    assert (empty.value.code, empty.value.message) == (grpc.StatusCode.INVALID_ARGUMENT, f"{file}; Invalid argument")
    file.write_text("improperly formatted file", encoding="utf-8")
    with pytest.raises(InvalidTextError, match="Invalid protobuf file") as other:
        read_text_file(file, MonitoringConfig())
    assert other.value.reason == (
        '1:12: Message type "tensorflow.serving.MonitoringConfig" has no field named "improperly".'
    )


def test_batching_of_all_models_has_the_values_of_its_file(tmp_path: Path) -> None:
    text = (
        "max_batch_size { value: 8 } batch_timeout_micros { value: 2000 } allowed_batch_sizes: 4 "
        "allowed_batch_sizes: 8 pad_variable_length_inputs: true num_batch_threads { value: 2 }"
    )
    expected = Batching(
        max_rows=8, timeout_us=2000, allowed_sizes=(4, 8), pad_variable_length=True, threads=2, max_enqueued_batches=10
    )
    flags = flags_of(tmp_path, text)
    assert global_batching(flags) == model_batching(flags, tmp_path) == expected
    assert global_batching(ServerFlags()) is None
    assert global_batching(ServerFlags(enable_batching=True)) == Batching()


def test_with_parameters_for_each_model_only_a_model_with_its_file_is_batched(tmp_path: Path) -> None:
    flags = flags_of(tmp_path, "num_batch_threads { value: 3 }", per_model=True)
    assert global_batching(flags) is model_batching(flags, tmp_path) is None
    (tmp_path / MODEL_FILE).write_text("max_batch_size { value: 3 }", encoding="utf-8")
    found = model_batching(flags, tmp_path)
    assert found is not None
    assert found.max_rows == 3
    without = ServerFlags(enable_per_model_batching_parameters=True)
    assert model_batching(without, tmp_path) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("num_batch_threads { value: 0 }", "num_batch_threads must be positive; was 0"),
        ("max_batch_size { value: 0 }", "max_batch_size must be positive; was 0"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros must not be negative; was -1"),
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: 4",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; expected 8",
        ),
    ],
)
def test_wrong_parameters_are_rejected(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(StatusError) as rejected:
        model_batching(flags_of(tmp_path, text), tmp_path)
    assert rejected.value.message == reason


def test_a_file_without_batching_is_rejected() -> None:
    with pytest.raises(StatusError, match="is set without setting"):
        global_batching(ServerFlags(batching_parameters_file="/b.txt"))
