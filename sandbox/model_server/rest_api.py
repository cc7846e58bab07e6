"""The REST API on the services: a request in, an answer out. It blocks while the model runs."""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import grpc
import numpy as np
from google.protobuf import json_format
from google.protobuf.message import Message
from numpy.typing import NDArray
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest, SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.regression_pb2 import RegressionRequest

from sandbox.model_server.flags import ServerFlags
from sandbox.model_server.rest_examples import example_input
from sandbox.model_server.rest_json import by_rows, column_tensors, row_tensors
from sandbox.model_server.rest_parse import parse
from sandbox.model_server.rest_paths import INT64_MAX, Target, is_served, target_of
from sandbox.model_server.rest_server import Answer
from sandbox.model_server.rest_text import classes, columns, encoded, error_text, json_text, regressions, rows
from sandbox.model_server.services import Services
from sandbox.model_server.signature import DEFAULT_SIGNATURE
from sandbox.model_server.status import StatusError, invalid_argument

_JSON = {"Content-Type": "application/json"}
_NO_TYPE = {"Content-Type": "text/html; charset=ISO-8859-1"}
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
_NOT_FOUND = b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n"
_MOST_DECOMPRESSED = 100 * 1024 * 1024
_GZIP = 16 + zlib.MAX_WBITS

_HTTP = {
    grpc.StatusCode.OK: HTTPStatus.OK,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    grpc.StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    grpc.StatusCode.FAILED_PRECONDITION: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.ABORTED: HTTPStatus.CONFLICT,
    grpc.StatusCode.OUT_OF_RANGE: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    grpc.StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
}


@dataclass(frozen=True, slots=True)
class _Call:
    """The part of a gRPC call's context that the services read.

    As in tensorflow_model_server the time limit begins with the run of the model.
    """

    limit_s: float

    def time_remaining(self) -> float:
        return self.limit_s

    def is_active(self) -> bool:
        return True


class RestApi:
    """Answers requests; the HTTP server leaves out the body of an answer to HEAD."""

    def __init__(self, services: Services, flags: ServerFlags, metrics_path: str | None) -> None:
        """`metrics_path`: the path of the metrics' page, if there is one."""
        self._services = services
        self._metrics_path = metrics_path
        limit_ms = flags.rest_api_timeout_in_ms
        self._call: Any = _Call(limit_ms / 1e3 if limit_ms > 0 else math.inf)
        self._cors = _CORS if flags.rest_api_enable_cors_support else {}

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """The answer to one request; `path` as it was sent, with its query."""
        if path == self._metrics_path:
            return Answer(HTTPStatus.OK, self._services.metrics.page().encode(), {"Content-Type": "text/plain"})
        if not is_served(path):
            return Answer(HTTPStatus.NOT_FOUND, _NOT_FOUND, {"Content-Type": "text/html"})
        if method == "OPTIONS":
            return Answer(HTTPStatus.OK if self._cors else HTTPStatus.BAD_REQUEST, b"", {**_NO_TYPE, **self._cors})
        if "gzip" in headers.get("Content-Encoding", ""):
            body = decompressed(body)
        status = 200
        try:
            target = target_of(method, path)
            if (target.version or 0) > INT64_MAX:
                return Answer(HTTPStatus.BAD_REQUEST, b"", {**_JSON, **self._cors})
            text = self._run(target, body)
        except RecursionError:
            status, text = 400, error_text("lists are nested too deeply")
        except UnicodeEncodeError as error:
            status, text = 400, error_text(f"a name is not UTF-8: {error.object}")
        except StatusError as error:
            status = int(_HTTP.get(error.code, HTTPStatus.INTERNAL_SERVER_ERROR))
            text = error_text(error.message)
        return Answer(status, encoded(text), {**_JSON, **self._cors})

    def _run(self, target: Target, body: bytes) -> str:
        spec = ModelSpec(name=target.model)
        if target.version is not None:
            spec.version.value = target.version
        if target.label is not None:
            spec.version_label = target.label
        match target.action:
            case "status":
                return self._status(spec)
            case "metadata":
                return self._metadata(spec)
        infer = {"predict": self._predict, "classify": self._classify, "regress": self._regress}[target.action]
        with self._services.metrics.request(target.model, target.action, "REST"):
            return infer(spec, parse(body))

    def _status(self, spec: ModelSpec) -> str:
        return _printed(self._services.get_model_status(GetModelStatusRequest(model_spec=spec), self._call))

    def _metadata(self, spec: ModelSpec) -> str:
        request = GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
        response = self._services.get_model_metadata(request, self._call)
        signatures = SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return (
            f'{{\n"model_spec":{_printed(response.model_spec)},\n'
            f'"metadata": {{"signature_def": {_printed(signatures)}}}\n}}\n'
        )

    def _predict(self, spec: ModelSpec, body: Mapping[str, Any]) -> str:
        name = _signature_name(body)
        with self._services.held(spec) as servable:
            signature = servable.signatures.get(name or DEFAULT_SIGNATURE)
            if signature is None:
                text = f'Serving signature name: "{name or DEFAULT_SIGNATURE}" not found in signature def'
                raise invalid_argument(text)
            if not signature.inputs:
                raise invalid_argument(f"Failed to get input map for signature: {name or 'DEFAULT'}")
            types, in_rows = dict(signature.inputs), by_rows(body)
            arrays = row_tensors(body["instances"], types) if in_rows else column_tensors(body["inputs"], types)
            with self._services.metrics.runtime(servable.id.name, "Predict"):
                results = signature.run([arrays[alias] for alias in types], signature.outputs, self._call.limit_s)
        outputs = {alias: _array(result) for alias, result in zip(signature.outputs, results, strict=True)}
        return rows(outputs) if in_rows else columns(outputs)

    def _classify(self, spec: ModelSpec, body: Mapping[str, Any]) -> str:
        spec.signature_name = _signature_name(body)
        result = self._services.classify(
            ClassificationRequest(model_spec=spec, input=example_input(body)), self._call
        ).result
        found = [list(example.classes) for example in result.classifications]
        labels = [[one.label for one in example] for example in found]
        return classes(labels, [np.array([one.score for one in example], np.float32) for example in found])

    def _regress(self, spec: ModelSpec, body: Mapping[str, Any]) -> str:
        spec.signature_name = _signature_name(body)
        result = self._services.regress(
            RegressionRequest(model_spec=spec, input=example_input(body)), self._call
        ).result
        return regressions(np.array([one.value for one in result.regressions], np.float32))


def decompressed(body: bytes) -> bytes:
    """A gzip body; empty if it is none, or has more than 100 MiB."""
    stream = zlib.decompressobj(_GZIP)
    try:
        found = stream.decompress(body, _MOST_DECOMPRESSED)
    except zlib.error:
        return b""
    return found if stream.eof else b""


def _array(result: Any) -> NDArray[Any]:
    # numpy's own type for bytes drops zeros at the end.
    return np.array(result, object) if isinstance(result, bytes) else np.asarray(result)


def _signature_name(body: Mapping[str, Any]) -> str:
    name = body.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid_argument(
            f"JSON Value: {json_text(body)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def _printed(message: Message) -> str:
    """All fields of a message in protobuf's JSON, with a new line at the end."""
    text: str = json_format.MessageToJson(
        message,
        indent=1,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        ensure_ascii=False,
    )
    return text.replace("<", "\\u003c").replace(">", "\\u003e") + "\n"
