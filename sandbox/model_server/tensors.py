"""Converts TensorProto ↔ numpy faster than TensorFlow's general functions.

The semantics are those of TensorFlow's `Tensor::FromProto`: `tensor_content` if it is not empty, else the typed field,
whose last value is repeated to fill the shape (0 or the empty string if the field is empty). A shape of unknown rank is
a scalar, a number that does not fit its type is cut.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike, NDArray
from tensorflow.core.framework import types_pb2
from tensorflow.core.framework.tensor_pb2 import TensorProto


@dataclass(frozen=True, slots=True)
class _Type:
    """A data type: numpy's type, the field of its typed values, and these values' numpy type."""

    dtype: np.dtype[Any]
    field: str
    wire: np.dtype[Any]


def _type(dtype: DTypeLike, field: str, wire: DTypeLike | None = None) -> _Type:
    return _Type(np.dtype(dtype), field, np.dtype(dtype if wire is None else wire))


_TYPES = {
    types_pb2.DT_FLOAT: _type(np.float32, "float_val"),
    types_pb2.DT_DOUBLE: _type(np.float64, "double_val"),
    types_pb2.DT_INT32: _type(np.int32, "int_val"),
    types_pb2.DT_INT64: _type(np.int64, "int64_val"),
    types_pb2.DT_BOOL: _type(np.bool_, "bool_val"),
    types_pb2.DT_STRING: _type(np.object_, "string_val"),
    types_pb2.DT_INT16: _type(np.int16, "int_val", np.int32),
    types_pb2.DT_INT8: _type(np.int8, "int_val", np.int32),
    types_pb2.DT_UINT8: _type(np.uint8, "int_val", np.int32),
    types_pb2.DT_UINT16: _type(np.uint16, "int_val", np.int32),
    types_pb2.DT_UINT32: _type(np.uint32, "uint32_val"),
    types_pb2.DT_UINT64: _type(np.uint64, "uint64_val"),
    types_pb2.DT_HALF: _type(np.float16, "half_val", np.int32),
    types_pb2.DT_BFLOAT16: _type(ml_dtypes.bfloat16, "half_val", np.int32),
    types_pb2.DT_COMPLEX64: _type(np.complex64, "scomplex_val", np.float32),
    types_pb2.DT_COMPLEX128: _type(np.complex128, "dcomplex_val", np.float64),
}
_NUMBERS = {known.dtype: number for number, known in _TYPES.items()}

# Without this limit a message of a few bytes could allocate terabytes of its last value.
_MOST_FILLED = 1 << 26


def numpy_type(number: int) -> np.dtype[Any] | None:
    """The numpy type of a TensorFlow data type: object for strings, None if it cannot be sent."""
    known = _TYPES.get(number)
    return known.dtype if known else None


def type_name(dtype: np.dtype[Any]) -> str:
    """TensorFlow's name of a numpy type: `DT_FLOAT`; `DT_INVALID` if it cannot be sent."""
    name: str = types_pb2.DataType.Name(_NUMBERS.get(dtype, types_pb2.DT_INVALID))
    return name


def decode(proto: TensorProto) -> NDArray[Any]:
    """The array of a TensorProto; strings become an array of bytes objects.

    Raises ValueError if it is malformed or of a type that cannot be sent.

    The array may be a read-only view of the message's bytes.
    """
    known = _TYPES.get(proto.dtype)
    if known is None:
        raise ValueError(f"data type {proto.dtype}")
    shape = [dim.size for dim in proto.tensor_shape.dim]
    size = math.prod(shape)
    if any(extent < 0 for extent in shape):
        raise ValueError(f"shape {shape} is not fully known")
    content: bytes = proto.tensor_content
    if content and size:
        return _from_content(content, known.dtype, size).reshape(shape)
    values = getattr(proto, known.field)
    if size > max(len(values), 1) and size > _MOST_FILLED:
        raise ValueError(f"{len(values)} values for shape {shape}")
    array = _from_values(values, known)
    if size > len(array):
        array = np.concatenate([array, np.repeat(array[-1:], size - len(array))])
    return array[:size].reshape(shape)


def encode(value: object, proto: TensorProto, *, as_content: bool) -> None:
    """Writes an output into `proto`: typed values, or with `as_content` raw bytes.

    Raises KeyError for a type that cannot be sent.
    """
    # numpy's own type for bytes drops zeros at the end.
    array = np.array(value, object) if isinstance(value, bytes) else np.asarray(value)
    dtype = array.dtype if array.dtype.kind not in "SU" else np.dtype(np.object_)
    number = _NUMBERS[dtype]
    proto.dtype = number
    proto.tensor_shape.SetInParent()
    dims = proto.tensor_shape.dim
    for size in array.shape:
        dims.add(size=size)
    flat = array.ravel()
    if as_content:
        proto.tensor_content = _packed(flat.tolist()) if dtype.hasobject else flat.tobytes()
        return
    known = _TYPES[number]
    if known.field == "half_val":
        flat = flat.view(np.uint16)
    elif dtype.kind == "c":
        flat = flat.view(known.wire)
    getattr(proto, known.field).extend(flat.tolist())


def _from_values(values: Any, known: _Type) -> NDArray[Any]:
    """The values of a typed field [n], at least one."""
    dtype, wire, count = known.dtype, known.wire, len(values)
    if dtype.hasobject:
        return np.array(list(values) or [b""], object)
    if dtype.kind == "c":
        count -= count % 2
    array = np.fromiter(values, wire, count) if count else np.zeros(2, wire)
    if known.field == "half_val":
        return array.astype(np.uint16).view(dtype)
    return array.view(dtype) if dtype.kind == "c" else array.astype(dtype, copy=False)


def _from_content(content: bytes, dtype: np.dtype[Any], size: int) -> NDArray[Any]:
    """Exactly `size` values of raw bytes. Raises ValueError."""
    if dtype.hasobject:
        return np.array(_unpacked(content, size), object)
    if len(content) != size * dtype.itemsize:
        raise ValueError(f"{len(content)} bytes for {size} values of {dtype}")
    if dtype == np.bool_ and content.translate(None, b"\0\1"):
        raise ValueError("a boolean is neither 0 nor 1")
    return np.frombuffer(content, dtype)


def _packed(texts: list[bytes]) -> bytes:
    """TensorFlow's form of strings in one piece: the length of each as a varint, then all bytes."""
    lengths = bytearray()
    for text in texts:
        length = len(text)
        while length >= 0x80:
            lengths.append(length & 0x7F | 0x80)
            length >>= 7
        lengths.append(length)
    return b"".join([bytes(lengths), *texts])


def _unpacked(content: bytes, count: int) -> list[bytes]:
    """Reverses `_packed`. Raises ValueError."""
    at, lengths = 0, []
    for _ in range(count):
        length = shift = 0
        while True:
            if at == len(content):
                raise ValueError("the lengths of strings are cut off")
            byte = content[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(length)
    if at + sum(lengths) != len(content):
        raise ValueError(f"{len(content)} bytes for strings of {sum(lengths)}")
    ends = np.cumsum([at, *lengths]).tolist()
    return [content[start:end] for start, end in pairwise(ends)]
