"""TensorFlow Serving's gRPC API without TensorFlow: messages, and handlers of a servicer."""

from typing import Any, Protocol

import grpc
import grpc.aio

from streamer.serving.protos import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

Context = grpc.aio.ServicerContext[Any, Any]


class Servicer(Protocol):
    """Answers the calls of a scorer with TensorFlow Serving's messages."""

    async def predict(self, request: Any, context: Context) -> Any: ...
    async def metadata(self, request: Any, context: Context) -> Any: ...
    async def status(self, request: Any, context: Context) -> Any: ...


def handlers(servicer: Servicer) -> "tuple[grpc.GenericRpcHandler[Any, Any], ...]":
    """Handlers that offer the servicer as PredictionService and ModelService."""
    prediction = {
        "Predict": grpc.unary_unary_rpc_method_handler(
            servicer.predict,
            request_deserializer=predict_pb2.PredictRequest.FromString,
            response_serializer=predict_pb2.PredictResponse.SerializeToString,
        ),
        "GetModelMetadata": grpc.unary_unary_rpc_method_handler(
            servicer.metadata,
            request_deserializer=get_model_metadata_pb2.GetModelMetadataRequest.FromString,
            response_serializer=get_model_metadata_pb2.GetModelMetadataResponse.SerializeToString,
        ),
    }
    model = {
        "GetModelStatus": grpc.unary_unary_rpc_method_handler(
            servicer.status,
            request_deserializer=get_model_status_pb2.GetModelStatusRequest.FromString,
            response_serializer=get_model_status_pb2.GetModelStatusResponse.SerializeToString,
        )
    }
    return (
        grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", prediction),
        grpc.method_handlers_generic_handler("tensorflow.serving.ModelService", model),
    )
