"""Predict requests as arrays, whose bytes need no message in between. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from streamer.features.examples import varint
from streamer.serving.protos import predict_pb2, tensor_pb2, types_pb2
from streamer.types import ModelVersion, Tensor

DTYPES = {
    np.dtype(np.float32): types_pb2.DT_FLOAT,
    np.dtype(np.int32): types_pb2.DT_INT32,
    np.dtype(np.int64): types_pb2.DT_INT64,
    np.dtype(np.float64): types_pb2.DT_DOUBLE,
    np.dtype(np.bool_): types_pb2.DT_BOOL,
    np.dtype(np.object_): types_pb2.DT_STRING,
}
_INPUTS = predict_pb2.PredictRequest.INPUTS_FIELD_NUMBER
_CONTENT = tensor_pb2.TensorProto.TENSOR_CONTENT_FIELD_NUMBER


@dataclass(frozen=True, slots=True)
class PredictCall:
    """A Predict request of one signature with these inputs.

    A message would hold one more copy of the arrays, for the time of the call, and two while it is made.
    """

    version: ModelVersion
    signature: str
    arrays: Mapping[str, Tensor]

    def message(self) -> Any:
        """The request as a message."""
        request = self._without_inputs()
        for name, array in self.arrays.items():
            tensor = request.inputs[name]
            tensor.dtype = DTYPES[array.dtype]
            tensor.tensor_shape.CopyFrom(_shape(array.shape))
            if array.dtype.kind == "O":
                tensor.string_val.extend(array.ravel().tolist())
            else:
                tensor.tensor_content = array.tobytes()
        return request

    def SerializeToString(self) -> bytes:  # noqa: N802  the name of a message's method
        """The bytes of a message that equals `message`."""
        if any(array.dtype.kind == "O" for array in self.arrays.values()):
            serialised: bytes = self.message().SerializeToString()
            return serialised
        parts: list[Any] = [self._without_inputs().SerializeToString()]
        for name, array in self.arrays.items():
            parts += (_before_content(name, array.dtype, array.shape, array.nbytes), np.ascontiguousarray(array).data)
        return b"".join(parts)

    def _without_inputs(self) -> Any:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self.version.name
        request.model_spec.version.value = self.version.version
        request.model_spec.signature_name = self.signature
        return request


def message_of(request: Any) -> Any:
    """The message of a request that may be a `PredictCall`."""
    return request.message() if isinstance(request, PredictCall) else request


@lru_cache(maxsize=256)
def _before_content(name: str, dtype: np.dtype[Any], shape: tuple[int, ...], size: int) -> bytes:
    """The entry of an input up to its content, which has `size` bytes."""
    before: bytes = tensor_pb2.TensorProto(dtype=DTYPES[dtype], tensor_shape=_shape(shape)).SerializeToString()
    tensor = before + _head(_CONTENT, size)
    key = name.encode()
    entry = _head(1, len(key)) + key + _head(2, len(tensor) + size) + tensor
    return _head(_INPUTS, len(entry) + size) + entry


def _head(number: int, size: int) -> bytes:
    """What stands before a field of `size` bytes."""
    return bytes([number << 3 | 2]) + varint(size)


@lru_cache(maxsize=256)
def _shape(sizes: tuple[int, ...]) -> Any:
    """The message of a shape. Callers copy it: that takes a third of the time of making it."""
    shape = tensor_pb2.TensorProto().tensor_shape
    for size in sizes:
        shape.dim.add().size = size
    return shape
