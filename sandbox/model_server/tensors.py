"""Converts TensorProto ↔ numpy faster than TensorFlow's general functions.

The semantics are those of TensorFlow's `Tensor::FromProto`: `tensor_content` if it is not empty, else the typed field,
whose last value is repeated to fill the shape (0 or the empty string if the field is empty).
"""

import math
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from tensorflow.core.framework import types_pb2
from tensorflow.core.framework.tensor_pb2 import TensorProto

# data type: numpy type, field of the typed values, type of those values
_TYPES: dict[int, tuple[np.dtype[Any], str]] = {
    types_pb2.DT_FLOAT: (np.dtype(np.float32), "float_val"),
    types_pb2.DT_DOUBLE: (np.dtype(np.float64), "double_val"),
    types_pb2.DT_INT32: (np.dtype(np.int32), "int_val"),
    types_pb2.DT_INT64: (np.dtype(np.int64), "int64_val"),
    types_pb2.DT_BOOL: (np.dtype(np.bool_), "bool_val"),
    types_pb2.DT_STRING: (np.dtype(np.object_), "string_val"),
    types_pb2.DT_INT16: (np.dtype(np.int16), "int_val"),
    types_pb2.DT_INT8: (np.dtype(np.int8), "int_val"),
    types_pb2.DT_UINT8: (np.dtype(np.uint8), "int_val"),
    types_pb2.DT_UINT16: (np.dtype(np.uint16), "int_val"),
    types_pb2.DT_UINT32: (np.dtype(np.uint32), "uint32_val"),
    types_pb2.DT_UINT64: (np.dtype(np.uint64), "uint64_val"),
    types_pb2.DT_HALF: (np.dtype(np.float16), "half_val"),
    types_pb2.DT_BFLOAT16: (np.dtype(ml_dtypes.bfloat16), "half_val"),
}
_NUMBERS = {dtype: number for number, (dtype, _) in _TYPES.items()}


def type_name(number: int) -> str:
    """TensorFlow's name of a data type: 1 → `float`."""
    if number not in types_pb2.DataType.values():
        return f"unknown dtype enum ({number})"
    name: str = types_pb2.DataType.Name(number)
    return name.removeprefix("DT_").lower()


def decode(proto: TensorProto) -> NDArray[Any]:
    """The array of a TensorProto; strings become an array of bytes objects.

    Raises ValueError if it is malformed.

    The array may be a read-only view of the message's bytes.
    """
    known = _TYPES.get(proto.dtype)
    if known is None:
        raise ValueError(f"type {type_name(proto.dtype)} is not supported")
    dtype, field = known
    shape = [dim.size for dim in proto.tensor_shape.dim]
    content: bytes = proto.tensor_content
    if content and dtype.hasobject:
        return _reshape(_strings(content), shape)
    if content:
        return _reshape(np.frombuffer(content, dtype), shape)
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise ValueError(f"shape {shape} is not fully known")
    values = getattr(proto, field)
    count, size = len(values), math.prod(shape)
    if size > max(count, 1) and size > _MOST_FILLED:
        raise ValueError(f"{count} values for shape {shape}")
    stored = np.dtype(np.uint16) if field == "half_val" else dtype
    array: NDArray[Any] = np.empty(max(count, 1), stored)
    if count:
        array[:] = np.array(values, object) if dtype.hasobject else np.fromiter(values, stored, count)
    else:
        array[0] = b"" if dtype.hasobject else 0
    if size > len(array):
        array = np.concatenate([array, np.repeat(array[-1:], size - len(array))])
    return array[:size].view(dtype).reshape(shape)


# Without this limit a message of a few bytes could allocate terabytes of its last value.
_MOST_FILLED = 1 << 26


def encode(value: object, proto: TensorProto, *, as_content: bool) -> None:
    """Writes an output into `proto`: typed values, or with `as_content` raw bytes (not strings)."""
    array = np.asarray(value)
    dtype = array.dtype if array.dtype.kind not in "SU" else np.dtype(np.object_)
    number = _NUMBERS[dtype]
    proto.dtype = number
    dims = proto.tensor_shape.dim
    for size in array.shape:
        dims.add(size=size)
    if dtype.hasobject:
        proto.string_val.extend(array.ravel().tolist())
    elif as_content:
        proto.tensor_content = array.tobytes()
    else:
        field = _TYPES[number][1]
        flat = array.ravel()
        getattr(proto, field).extend((flat.view(np.uint16) if field == "half_val" else flat).tolist())


def _reshape(array: NDArray[Any], shape: list[int]) -> NDArray[Any]:
    if any(size < 0 for size in shape):
        raise ValueError(f"shape {shape} is not fully known")
    return array.reshape(shape)


def _strings(content: bytes) -> NDArray[Any]:
    """Rejects packed strings: they cannot be split, and no client library sends them."""
    raise ValueError(f"{len(content)} bytes of tensor_content for strings: send string_val")
