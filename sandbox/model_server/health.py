"""gRPC's health service: three names that serve as long as the process."""

from typing import Any

import grpc
from google.protobuf.message import DecodeError

# Messages with the fields of `grpc.health.v1`: a request is one string, a response one number.
from google.protobuf.wrappers_pb2 import Int32Value as HealthCheckResponse
from google.protobuf.wrappers_pb2 import StringValue as HealthCheckRequest

_SERVICES = frozenset({"", "PredictionService", "ModelService"})
_SERVING = 1


def health_handler() -> "grpc.GenericRpcHandler[Any, Any]":  # generic only in its stubs
    """The handler of `grpc.health.v1.Health/Check`; the server has no `Watch`."""
    method = {"Check": grpc.unary_unary_rpc_method_handler(_check)}
    return grpc.method_handlers_generic_handler("grpc.health.v1.Health", method)


def _check(message: bytes, context: grpc.ServicerContext) -> bytes:
    try:
        request = HealthCheckRequest.FromString(message)
    except DecodeError:
        context.abort(grpc.StatusCode.INTERNAL, "")
    if request.value not in _SERVICES:
        context.abort(grpc.StatusCode.NOT_FOUND, "service name unknown")
    response: bytes = HealthCheckResponse(value=_SERVING).SerializeToString()
    return response
