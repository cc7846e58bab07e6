"""Predict and GetModelMetadata: values, and TensorFlow Serving's errors."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from sandbox.model_server.lean_tensorflow import lean_tensorflow
from sandbox.processes.model_server import ModelServerProcess
from tests.sandbox.model_server.client import Client, Failure, eventually, tensor

with lean_tensorflow():
    from tensorflow_serving.apis.predict_pb2 import PredictRequest

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

INVALID = grpc.StatusCode.INVALID_ARGUMENT
FACTORED = {
    "user": tensor([[1, 2], [3, 4]]),
    "candidate": tensor([[100], [200], [300]], "int32"),
    "row_to_request": tensor([1, 0, 1], "int32"),
}


@pytest.fixture(scope="module")
def client(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    base = tmp_path_factory.mktemp("predict")
    (base / "00000007").symlink_to(tiny_models / "plus_two")
    server = ModelServerProcess(base, "tiny", log_path=base / "log", flags={"grpc_max_threads": 2})
    with server:
        client = Client(server.address)
        yield client
        client.close()


@pytest.mark.parametrize("shape", [[1], [1, 1], [300, 1], [0, 1]])
def test_values_are_computed_for_each_shape_that_the_graph_accepts(client: Client, shape: list[int]) -> None:
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    result = client.predict("tiny", {"x": tensor(x)})
    assert result == {"y": (0.5 * x + 2).tolist(), "twice": (2 * x).tolist()}


def test_inputs_may_be_typed_values_and_the_last_one_is_repeated(client: Client) -> None:
    request = client.request("tiny", {"x": tensor([[0.0]] * 4)}, outputs=("y",))
    request.inputs["x"].tensor_content = b""
    request.inputs["x"].float_val.extend([2.0, 4.0])
    assert list(client.raw_predict(request).outputs["y"].float_val) == [3.0, 4.0, 4.0, 4.0]


def test_the_answer_has_model_version_signature_and_typed_values(client: Client) -> None:
    response = client.raw_predict(client.request("tiny", {"x": tensor([[2.0]])}))
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("tiny", 7, "serving_default")
    assert list(response.outputs["y"].float_val) == [3.0]
    assert not response.outputs["y"].tensor_content


def test_a_signature_without_inputs_returns_its_constant(client: Client) -> None:
    assert client.predict("tiny", {}, signature="feature_spec") == {"spec": b"name: tiny\n"}


def test_inputs_of_a_factored_signature_may_differ_in_their_first_dimension(client: Client) -> None:
    assert client.predict("tiny", FACTORED, signature="score") == {"ctr": [143.0, 221.0, 343.0]}


def test_strings_are_inputs_and_outputs(client: Client) -> None:
    words = tensor([b"a", b"", b"\xff\x00c"], "object")
    expected = {"words": [b"a!", b"!", b"\xff\x00c!"], "lengths": [1, 0, 3]}
    assert client.predict("tiny", {"words": words}, signature="join") == expected


def test_an_output_filter_chooses_outputs(client: Client) -> None:
    assert client.predict("tiny", {"x": tensor([[3.0]])}, outputs=("twice",)) == {"twice": [[6.0]]}


X = {"x": tensor([[1.0]])}
WRONG: list[tuple[str, dict[str, Any], dict[str, Any], grpc.StatusCode, str]] = [
    ("model", X, {"model": "nobody"}, grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(nobody)"),
    ("version", X, {"version": 8}, grpc.StatusCode.NOT_FOUND, "Servable not found for request: Specific(tiny, 8)"),
    ("no name", X, {"model": ""}, INVALID, "ModelSpec has no name specified."),
    ("label", X, {"label": "new"}, INVALID, "Unrecognized servable version label: new"),
    (
        "signature",
        X,
        {"signature": "nothing"},
        grpc.StatusCode.FAILED_PRECONDITION,
        'Serving signature key "nothing" not found.',
    ),
    (
        "missing input",
        {"user": FACTORED["user"]},
        {"signature": "score"},
        INVALID,
        "input size does not match signature: 1!=3 len({user}) != len({candidate,row_to_request,user}). "
        "Sent extra: {}. Missing but required: {candidate,row_to_request}.",
    ),
    (
        "extra input",
        X | {"z": X["x"]},
        {},
        INVALID,
        "input size does not match signature: 2!=1 len({x,z}) != len({x}). Sent extra: {z}. Missing but required: {}.",
    ),
    (
        "misnamed input",
        {"z": X["x"]},
        {},
        INVALID,
        "Signature input alias: x(feed name: serving_default_x:0) not found",
    ),
    ("type", {"x": tensor([[1]], "int64")}, {}, INVALID, "Expects arg[0] to be float but int64 is provided"),
    ("shape", FACTORED | {"user": tensor([[1, 2, 3]])}, {"signature": "score"}, INVALID, "Matrix size-incompatible"),
    (
        "row",
        FACTORED | {"row_to_request": tensor([0, 1, 9], "int32")},
        {"signature": "score"},
        INVALID,
        "not in [0, 2)",
    ),
    (
        "output",
        X,
        {"outputs": ("q",)},
        INVALID,
        "output tensor alias not found in signature: q Outputs expected to be in",
    ),
    ("output twice", X, {"outputs": ("y", "y")}, INVALID, "duplicate output tensor alias: y"),
]


@pytest.mark.parametrize(("inputs", "choice", "code", "text"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_a_wrong_request_gets_the_code_and_text_of_tensorflow_serving(
    client: Client, inputs: dict[str, Any], choice: dict[str, Any], code: grpc.StatusCode, text: str
) -> None:
    failure = client.predict(inputs=inputs, **{"model": "tiny", **choice})
    assert isinstance(failure, Failure)
    assert failure.code is code
    assert text in failure.text


@pytest.mark.parametrize("size", [2, -1, 2**40])
def test_content_that_does_not_fill_its_shape_is_a_parsing_error(client: Client, size: int) -> None:
    request = client.request("tiny", X)
    request.inputs["x"].tensor_shape.dim[0].size = size
    with pytest.raises(grpc.RpcError, match="tensor parsing error: x"):
        client.raw_predict(request)


def test_a_request_without_a_model_spec_is_rejected(client: Client) -> None:
    with pytest.raises(grpc.RpcError, match="Missing ModelSpec"):
        client.raw_predict(PredictRequest(inputs=X))


def test_metadata_shows_all_signatures_with_names_and_types(client: Client) -> None:
    found = client.signatures("tiny").signature_def
    assert {"serving_default", "feature_spec", "score", "join", "slow"} <= set(found)
    assert {name: info.dtype for name, info in found["score"].inputs.items()} == {
        "user": 1,
        "candidate": 3,
        "row_to_request": 3,
    }
    assert not found["feature_spec"].inputs


def test_a_slow_request_is_rejected_while_another_runs_and_leaves_the_server_at_its_deadline(client: Client) -> None:
    """Of two threads one waits for calls, so one call runs."""

    def slow(steps: int, timeout_s: float) -> dict[str, Any] | Failure:
        return client.predict("tiny", {"steps": tensor(steps, "int64")}, signature="slow", timeout_s=timeout_s)

    steps, took_s = 1_000, 0.0
    while took_s < 0.2:
        steps *= 4
        started = time.monotonic()
        assert slow(steps, 60.0) == {"sum": steps * (steps - 1) // 2}
        took_s = time.monotonic() - started
    minutes = int(steps * 600 / took_s)
    with ThreadPoolExecutor(4) as pool:
        failures = list(pool.map(slow, [minutes] * 4, [0.5] * 4))
    rejected = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")
    assert failures.count(rejected) == 3
    (other,) = (failure for failure in failures if failure != rejected)
    assert isinstance(other, Failure)
    assert other.code is grpc.StatusCode.DEADLINE_EXCEEDED
    eventually(lambda: client.line(2.0, "tiny") == 3.0, "the thread is free")
