"""REST requests and replies, compared with what a real server took and answered."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import BadReplyError, PredictError, VersionGoneError
from streamer.serving import messages, rest_messages
from streamer.serving.predict_call import DTYPES
from streamer.serving.protos import get_model_metadata_pb2, predict_pb2, types_pb2
from streamer.serving.transport import Rpc
from streamer.types import F32, ModelVersion, ScoreOutput
from tests.public_data import require_data
from tests.sandbox.model_server.recorded.recording import recording

V = ModelVersion("ctr", 3)


def recorded(kind: str) -> list[Mapping[str, Any]]:
    require_data(Path("tfserving/calls.jsonl"))
    return [call for call in recording().calls if call["kind"] == kind and call["server"] == "main"]


def body_of(call: Mapping[str, Any]) -> bytes:
    text: str | None = call.get("response")
    return base64.b64decode(call["response_base64"]) if text is None else text.encode()


def rpc_of(call: Mapping[str, Any]) -> Rpc:
    path = call["path"]
    return "Predict" if path.endswith(":predict") else "GetModelMetadata" if "metadata" in path else "GetModelStatus"


def sent(arrays: Mapping[str, Any]) -> Any:
    return orjson.loads(rest_messages.http_request("Predict", messages.predict_request(V, "score", arrays)).body or b"")


def scores(text: str, rows: int) -> messages.Scores:
    return messages.read_scores(rest_messages.reply("Predict", text.encode()), ScoreOutput("ctr"), rows)


def test_the_path_names_the_version_or_the_label() -> None:
    requests = [
        rest_messages.http_request("Predict", messages.predict_request(V, "score", {"x": np.zeros(1, np.int32)})),
        rest_messages.http_request("GetModelMetadata", messages.metadata_request(name="ctr", version={"value": 0})),
        rest_messages.http_request("GetModelMetadata", messages.metadata_request(name="ctr", version_label="stable")),
        rest_messages.http_request("GetModelStatus", messages.metadata_request(name="ctr")),
    ]
    assert [(method, path) for method, path, _ in requests] == [
        ("POST", "/v1/models/ctr/versions/3:predict"),
        ("GET", "/v1/models/ctr/versions/0/metadata"),
        ("GET", "/v1/models/ctr/labels/stable/metadata"),
        ("GET", "/v1/models/ctr"),
    ]


def test_inputs_are_columns_whose_first_dimensions_may_differ() -> None:
    arrays = {"request_ids": np.zeros((2, 3), np.int32), "row_to_request": np.array([0, 0, 1], np.int32)}
    assert sent(arrays) == {
        "signature_name": "score",
        "inputs": {"request_ids": [[0, 0, 0], [0, 0, 0]], "row_to_request": [0, 0, 1]},
    }


def test_integers_keep_all_their_digits() -> None:
    numbers = np.array([2**53 + 1, 2**63 - 1, -(2**63)], np.int64)
    assert sent({"x": numbers})["inputs"]["x"] == numbers.tolist()
    (reply,) = (call for call in recorded("rest") if call["id"] == "r059")
    outputs = rest_messages.reply("Predict", body_of(reply)).outputs
    assert np.frombuffer(outputs["i"].tensor_content, np.int64).tolist() == [2**53 + 1, 2**63 - 1]
    assert list(outputs["s"].string_val) == [b"a", b""]
    assert np.frombuffer(outputs["d"].tensor_content, np.float32).tolist() == [np.float32(0.1), 100]


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_a_float_keeps_its_value_in_both_directions(numbers: list[float]) -> None:
    exact = np.array(numbers, np.float32)
    assert np.array_equal(np.array(sent({"x": exact})["inputs"]["x"]).astype(np.float32), exact)
    # As the server writes it: at most nine digits.
    text = "[" + ",".join(f"{number:.9g}" for number in exact.tolist()) + "]"
    tensor = rest_messages.reply("Predict", f'{{"outputs": {text}}}'.encode()).outputs[messages.UNNAMED]
    found: F32 = np.frombuffer(tensor.tensor_content, messages_dtype(tensor.dtype)).astype(np.float32)
    assert np.array_equal(found, exact)


def messages_dtype(number: int) -> Any:
    return next(dtype for dtype, known in DTYPES.items() if known == number)


def test_nan_and_infinity_are_written_and_read_by_name() -> None:
    request = messages.predict_request(V, "score", {"x": np.array([np.nan, -np.inf, 0.5], np.float32)})
    body = rest_messages.http_request("Predict", request).body
    assert body is not None
    assert b'"x": [NaN, -Infinity, 0.5]' in body
    for call in recorded("rest"):
        if call["id"] == "r090":
            with pytest.raises(BadReplyError, match="no score is in \\[0, 1\\]: 1 nan, 2 infinite"):
                scores(body_of(call).decode(), 3).usable()
    found = scores('{"outputs": [NaN, 0.5, Infinity]}', 3)
    assert found.invalid == {"nan": 1, "infinite": 1}
    assert found.usable()[1] == np.float32(0.5)


def test_strings_are_text_or_base64() -> None:
    request = predict_pb2.PredictRequest()
    tensor = request.inputs["s"]
    tensor.dtype = types_pb2.DT_STRING
    tensor.string_val.extend(["é".encode(), b"\xff"])
    for size in (2, 1):
        tensor.tensor_shape.dim.add().size = size
    body = rest_messages.http_request("Predict", request).body
    assert orjson.loads(body or b"")["inputs"] == {"s": [["é"], [{"b64": "/w=="}]]}
    reply = rest_messages.reply("Predict", b'{"outputs": {"a": ["\xc3\xa9"], "b_bytes": [{"b64": "/w=="}], "c": "x"}}')
    assert {n: list(t.string_val) for n, t in reply.outputs.items()} == {
        "a": ["é".encode()],
        "b_bytes": [b"\xff"],
        "c": [b"x"],
    }


def test_a_signature_without_inputs_is_called_by_its_copy() -> None:
    """A real server rejects the call of the signature itself: r098, r099, r215."""
    request = messages.predict_request(V, messages.SPEC, {})
    body = rest_messages.http_request("Predict", request).body
    assert orjson.loads(body or b"") == {"signature_name": "feature_spec_rest", "inputs": {"rows": [0]}}
    reply = rest_messages.reply("Predict", b'{"outputs": ["name: tiny"]}')
    assert messages.read_spec(reply, V) == "name: tiny"
    error = rest_messages.failure(
        400, b'{"error": "Serving signature name: \\"feature_spec_rest\\" not found in signature def"}'
    )
    assert error.code == "FAILED_PRECONDITION"
    assert "export the model again, or name its spec in predictor.spec_files" in str(error)


def test_metadata_and_status_say_the_same_as_over_grpc() -> None:
    same = 0
    for call in recorded("rest"):
        if call["status"] != 200 or not call["path"].endswith("/metadata"):
            continue
        found = rest_messages.reply("GetModelMetadata", body_of(call))
        model = {"name": found.model_spec.name}
        for known in recorded("grpc"):
            if (
                "response" in known
                and known["method"].endswith("Metadata")
                and known["request"].get("modelSpec") == model
            ):
                over_grpc = get_model_metadata_pb2.GetModelMetadataResponse()
                json_format.ParseDict(known["response"], over_grpc, descriptor_pool=over_grpc.DESCRIPTOR.file.pool)
                if over_grpc.model_spec.version.value == messages.read_version(found):
                    for name in ("serving_default", "regress_x_to_y", "only"):
                        assert signature(found, name) == signature(over_grpc, name)
                    same += 1
    assert same >= 5
    status = rest_messages.reply(
        "GetModelStatus",
        b'{"model_version_status": [{"version": "9", "state": "AVAILABLE", "status": {"error_code": "OK"}, "new": 1}]}',
    )
    assert [(one.version, one.state) for one in status.model_version_status] == [(9, 30)]


def signature(reply: Any, name: str) -> Any:
    try:
        return messages.read_signature(reply, V, name)
    except BadReplyError as error:
        return str(error)


@pytest.mark.parametrize(
    ("status", "text", "code"),
    [
        (400, "JSON Value: null Type: Null is not of expected type: float", "INVALID_ARGUMENT"),
        (400, "Unrecognized servable version label: nope", "INVALID_ARGUMENT"),
        (400, "Could not find variable dense/kernel. This could mean that the variable", "FAILED_PRECONDITION"),
        (400, 'Serving signature name: "nope" not found in signature def', "FAILED_PRECONDITION"),
        (404, "Servable not found for request: Specific(half, 9)", "NOT_FOUND"),
        (429, "Server Threadpool Exhausted", "RESOURCE_EXHAUSTED"),
        (500, "", "INTERNAL"),
        (501, "Conversion of JSON Value: 1.5 to type: half", "UNIMPLEMENTED"),
        (503, "shutting down", "UNAVAILABLE"),
        (504, "Timed out waiting for notification", "DEADLINE_EXCEEDED"),
        (418, "teapot", "UNKNOWN"),
    ],
)
def test_a_status_becomes_the_code_of_grpc(status: int, text: str, code: str) -> None:
    error = rest_messages.failure(status, json.dumps({"error": text}).encode())
    assert (error.code, error.detail) == (code, text)
    assert isinstance(error, VersionGoneError) == (code == "NOT_FOUND")


@pytest.mark.parametrize(
    ("status", "code"), [(400, "INTERNAL"), (404, "UNIMPLEMENTED"), (413, "MESSAGE_TOO_LARGE"), (502, "UNAVAILABLE")]
)
def test_an_error_of_another_program_blames_neither_request_nor_version(status: int, code: str) -> None:
    error = rest_messages.failure(status, b"<HTML><BODY><H1>Not Found</H1></BODY></HTML>")
    assert (error.code, type(error)) == (code, PredictError)
    assert "is this the server's REST port (default 8501)?" in error.detail


def test_every_recorded_answer_is_a_reply_or_a_declared_error() -> None:
    replies = 0
    for call in recorded("rest"):
        if call["path"].startswith("/monitoring") or "response_sha256" in call:
            continue
        body = body_of(call)
        if call["status"] == 200:
            try:
                rest_messages.reply(rpc_of(call), body)
                replies += 1
            except BadReplyError:
                # Answers in rows, to requests in rows, which the scorer does not send.
                assert b'"outputs"' not in body, call["id"]
        else:
            error = rest_messages.failure(call["status"], body)
            is_gone = call["status"] == 404 and call["content_type"] == "application/json"
            assert isinstance(error, VersionGoneError) == is_gone, call["id"]
    assert replies >= 39


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<HTML>", b"[]", b"3", b"{}", b'{"outputs"', b'{"outputs": [1.0, [2.0]]}', b"\xff\xfe",
        b'{"outputs": [[' + b"[" * 100_000, b'{"outputs": [{"b64": 5}]}', b'{"outputs": {"ctr": [{}]}}',
        b'{"outputs": [1' + b"0" * 5000 + b"]}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("rpc", ["Predict", "GetModelStatus", "GetModelMetadata"])
def test_a_damaged_body_is_a_bad_reply(rpc: Rpc, body: bytes) -> None:
    def read() -> None:
        found = rest_messages.reply(rpc, body)
        if rpc == "Predict":
            messages.read_scores(found, ScoreOutput("ctr"), 1)

    with pytest.raises(BadReplyError) as caught:
        read()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("body", ["null", '["a"]', "[null]", "[[0.5, 0.5]]", "[true]", "[1]", '{"other": [0.5]}'])
def test_outputs_of_another_kind_are_no_scores(body: str) -> None:
    with pytest.raises(BadReplyError, match="expected"):
        scores(f'{{"outputs": {body}}}', 1)


def test_names_of_classes_do_not_spoil_the_scores_beside_them() -> None:
    """The `predict` signature of a tf.estimator classifier returns `classes`, text [n, 1], too."""
    body = b'{"outputs": {"classes": [["1"], ["0"]], "probabilities": [[0.25, 0.75], [0.5, 0.5]]}}'
    reply = rest_messages.reply("Predict", body)
    assert list(reply.outputs["classes"].string_val) == [b"1", b"0"]
    assert [dim.size for dim in reply.outputs["classes"].tensor_shape.dim] == [2, 1]
    assert messages.read_scores(reply, ScoreOutput("probabilities", None, 1), 2).ctr.tolist() == [0.75, 0.5]
