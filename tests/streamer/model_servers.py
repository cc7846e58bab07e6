"""Real gRPC servers in the test's own process, which answer as the test tells them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import numpy as np

from streamer.features import GROUPS, FeatureSpec, Layout
from streamer.serving_messages import get_model_metadata_pb2, get_model_status_pb2, predict_pb2, types_pb2
from streamer.types import F32


def reply_of(ctr: F32, dtype: int = types_pb2.DT_FLOAT, *, as_content: bool = True) -> Any:
    reply = predict_pb2.PredictResponse()
    tensor = reply.outputs["ctr"]
    tensor.dtype = dtype
    tensor.tensor_shape.dim.add().size = len(ctr)
    if as_content:
        tensor.tensor_content = ctr.tobytes()
    else:
        tensor.float_val.extend(ctr.tolist())
    return reply


def right(request: Any) -> Any:
    """Scores that tell the candidates: id / 1e6."""
    ids = np.frombuffer(request.inputs["candidate_ids"].tensor_content, np.int32)
    return reply_of((ids / np.float32(1e6)).astype(np.float32))


@dataclass
class Server:
    """One server: `answer` makes a reply of a request, or is the status that it fails with.

    With a `spec`, as JSON, it has the signatures `feature_spec` and `score` of that spec in every version.
    """

    answer: Callable[[Any], Any] | grpc.StatusCode = right
    versions: tuple[int, ...] = (3,)
    spec: str | None = None
    calls: int = 0
    hang: asyncio.Event = field(default_factory=asyncio.Event)
    hangs: bool = False
    address: str = ""

    async def predict(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        if request.model_spec.signature_name == "feature_spec":
            return _spec_reply(self.spec or "")
        self.calls += 1
        if self.hangs:
            await self.hang.wait()
        if isinstance(self.answer, grpc.StatusCode):
            await context.abort(self.answer, "as told")
        return self.answer(request)

    async def metadata(self, _: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        if self.spec is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, (dtype, width) in _inputs_of(self.spec or "").items():
            info = signatures.signature_def["score"].inputs[name]
            info.dtype = dtype
            info.tensor_shape.dim.add().size = -1
            if width:
                info.tensor_shape.dim.add().size = width
        reply = get_model_metadata_pb2.GetModelMetadataResponse()
        reply.metadata["signature_def"].Pack(signatures)
        return reply

    async def status(self, _: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        if isinstance(self.answer, grpc.StatusCode):
            await context.abort(self.answer, "as told")
        reply = get_model_status_pb2.GetModelStatusResponse()
        for version in self.versions:
            found = reply.model_version_status.add()
            found.version = version
            found.state = get_model_status_pb2.ModelVersionStatus.AVAILABLE
        return reply

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Server"]:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    "tensorflow.serving.PredictionService",
                    {
                        "Predict": grpc.unary_unary_rpc_method_handler(
                            self.predict,
                            request_deserializer=predict_pb2.PredictRequest.FromString,
                            response_serializer=predict_pb2.PredictResponse.SerializeToString,
                        ),
                        "GetModelMetadata": grpc.unary_unary_rpc_method_handler(
                            self.metadata,
                            request_deserializer=get_model_metadata_pb2.GetModelMetadataRequest.FromString,
                            response_serializer=get_model_metadata_pb2.GetModelMetadataResponse.SerializeToString,
                        ),
                    },
                ),
                grpc.method_handlers_generic_handler(
                    "tensorflow.serving.ModelService",
                    {
                        "GetModelStatus": grpc.unary_unary_rpc_method_handler(
                            self.status,
                            request_deserializer=get_model_status_pb2.GetModelStatusRequest.FromString,
                            response_serializer=get_model_status_pb2.GetModelStatusResponse.SerializeToString,
                        )
                    },
                ),
            )
        )
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        try:
            yield self
        finally:
            self.hang.set()
            await server.stop(0)


def _spec_reply(spec: str) -> Any:
    reply = predict_pb2.PredictResponse()
    tensor = reply.outputs["spec"]
    tensor.dtype = types_pb2.DT_STRING
    tensor.string_val.append(spec.encode())
    return reply


def _inputs_of(spec: str) -> dict[str, tuple[int, int]]:
    """Dtype and width of each input of the `score` signature; 0 for a vector."""
    layout = Layout(FeatureSpec.from_json(spec))
    ids = {f"{group}_ids": (types_pb2.DT_INT32, layout.id_width(group)) for group in GROUPS}
    floats = {f"{group}_floats": (types_pb2.DT_FLOAT, layout.float_width(group)) for group in GROUPS}
    inputs = {name: (dtype, width) for name, (dtype, width) in (ids | floats).items() if width}
    return {**inputs, "row_to_request": (types_pb2.DT_INT32, 0)}
