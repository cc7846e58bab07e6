"""TensorFlow Serving's REST API in front of a servicer of its gRPC API, in the process of the test."""

import base64
import json
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import grpc
import numpy as np
from aiohttp import web
from google.protobuf import json_format

from sandbox.model_server.replies import Servicer
from streamer.serving.protos import get_model_metadata_pb2, get_model_status_pb2, predict_pb2, types_pb2

_PATH = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?(?P<rest>:predict|/metadata)?"
)
_STATUSES = {
    "INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "OUT_OF_RANGE": 400, "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403, "NOT_FOUND": 404, "ABORTED": 409, "RESOURCE_EXHAUSTED": 429, "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504,
}  # fmt: skip


class _AbortError(Exception):
    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.status = _STATUSES.get(code.name, 500)


class _Context:
    async def abort(self, code: grpc.StatusCode, text: str) -> NoReturn:
        raise _AbortError(code, text)


@asynccontextmanager
async def rest_server(servicer: Servicer, address: str, tls: ssl.SSLContext | None) -> AsyncIterator[str]:
    """A running server, at this address or at a free port of this machine; yields its address."""
    context: Any = _Context()

    async def answer(request: web.Request) -> web.Response:
        found = _PATH.fullmatch(request.rel_url.raw_path)
        assert found is not None, request.path
        model = {"name": found["name"]}
        model |= {"version": found["version"]} if found["version"] else {}
        model |= {"version_label": found["label"]} if found["label"] else {}
        try:
            if found["rest"] == ":predict":
                assert request.method == "POST"
                return _text(_outputs(await servicer.predict(_predict_request(model, await request.json()), context)))
            assert request.method == "GET"
            if found["rest"] is None:
                status = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": model["name"]})
                return _text(_json(await servicer.status(status, context)))
            metadata = get_model_metadata_pb2.GetModelMetadataRequest()
            json_format.ParseDict({"model_spec": model, "metadata_field": ["signature_def"]}, metadata)
            return _text(_metadata(await servicer.metadata(metadata, context)))
        except _AbortError as error:
            return _text({"error": str(error)}, error.status)

    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.01)
    await runner.setup()
    port = int(address.rpartition(":")[2] or 0)
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _text(body: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, text=json.dumps(body, indent=4), content_type="application/json")


def _predict_request(model: dict[str, str], body: dict[str, Any]) -> Any:
    signature, inputs = body["signature_name"], body["inputs"]
    if signature.endswith("_rest"):
        signature, inputs = signature.removesuffix("_rest"), {}
    request = predict_pb2.PredictRequest()
    json_format.ParseDict({**model, "signature_name": signature}, request.model_spec)
    for name, values in inputs.items():
        array = np.array(values, np.float32 if name.endswith("floats") else np.int32)
        tensor = request.inputs[name]
        tensor.dtype = types_pb2.DT_FLOAT if array.dtype == np.float32 else types_pb2.DT_INT32
        for size in array.shape:
            tensor.tensor_shape.dim.add().size = size
        tensor.tensor_content = array.tobytes()
    return request


def _outputs(reply: Any) -> dict[str, Any]:
    found = {name: _value(tensor) for name, tensor in reply.outputs.items()}
    return {"outputs": next(iter(found.values())) if len(found) == 1 else found}


def _value(tensor: Any) -> Any:
    if tensor.dtype == types_pb2.DT_STRING:
        return [_string(value) for value in tensor.string_val]
    values = np.frombuffer(tensor.tensor_content, np.float32) if tensor.tensor_content else tensor.float_val
    # The shortest text of a float32, as the server writes it.
    return [float(str(np.float32(value))) for value in values]


def _string(value: bytes) -> Any:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def _metadata(reply: Any) -> dict[str, Any]:
    signatures = get_model_metadata_pb2.SignatureDefMap()
    reply.metadata["signature_def"].Unpack(signatures)
    return {"model_spec": _json(reply.model_spec), "metadata": {"signature_def": _json(signatures)}}


def _json(message: Any) -> Any:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
