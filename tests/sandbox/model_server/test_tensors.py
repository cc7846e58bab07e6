"""Tensors in messages: every type, both forms, and messages that are malformed."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import DTypeLike, NDArray

from sandbox.model_server.lean_tensorflow import lean_tensorflow

with lean_tensorflow():
    from tensorflow.core.framework.tensor_pb2 import TensorProto
    from tensorflow.core.framework.types_pb2 import DataType

    from sandbox.model_server.tensors import decode, encode, type_name

NUMBERS: list[DTypeLike] = [
    *("float16", "float32", "float64", "complex64", "complex128", "bool"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
]
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
NUMERIC = st.sampled_from(NUMBERS).flatmap(lambda dtype: arrays.arrays(dtype, SHAPES))
TEXTS = arrays.arrays(object, SHAPES, elements=st.binary(max_size=200))


@settings(max_examples=50)
@given(st.one_of(NUMERIC, TEXTS), st.booleans())
def test_an_array_arrives_as_it_was_sent(array: NDArray[Any], as_content: bool) -> None:
    proto = TensorProto()
    encode(array, proto, as_content=as_content)
    found = decode(TensorProto.FromString(proto.SerializeToString()))
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.tobytes() == array.tobytes() if not array.dtype.hasobject else found.tolist() == array.tolist()
    assert not (as_content and any(name.endswith("_val") for name in (f.name for f, _ in proto.ListFields())))


def test_bfloat16_travels_as_its_bits() -> None:
    proto = TensorProto()
    encode(np.array([1.5, -2.0], ml_dtypes.bfloat16), proto, as_content=False)
    assert list(proto.half_val) == [16320, 49152]
    assert decode(proto).tolist() == [1.5, -2.0]


def test_a_single_text_keeps_its_zeros() -> None:
    proto = TensorProto()
    encode(b"a\0", proto, as_content=False)
    assert list(proto.string_val) == [b"a\0"]


def tensor(**fields: Any) -> TensorProto:
    shape = fields.pop("shape", [])
    proto = TensorProto(**fields)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize(
    ("proto", "values"),
    [
        (tensor(dtype=DataType.DT_FLOAT, shape=[3], float_val=[1.0, 2.0]), [1.0, 2.0, 2.0]),
        (tensor(dtype=DataType.DT_FLOAT, shape=[1], float_val=[1.0, 2.0]), [1.0]),
        (tensor(dtype=DataType.DT_INT8, shape=[2], int_val=[300, -129]), [44, 127]),
        (tensor(dtype=DataType.DT_STRING, shape=[2]), [b"", b""]),
        (tensor(dtype=DataType.DT_FLOAT, shape=[0], tensor_content=b"???"), []),
        (tensor(dtype=DataType.DT_STRING, shape=[2], tensor_content=b"\1\0a"), [b"a", b""]),
    ],
)
def test_values_are_repeated_or_cut(proto: TensorProto, values: list[object]) -> None:
    assert decode(proto).tolist() == values


@pytest.mark.parametrize(
    "proto",
    [
        tensor(),
        tensor(dtype=DataType.DT_FLOAT_REF, float_val=[1.0]),
        tensor(dtype=DataType.DT_RESOURCE),
        tensor(dtype=DataType.DT_FLOAT, shape=[-1], float_val=[1.0]),
        tensor(dtype=DataType.DT_FLOAT, shape=[1 << 40, 1 << 40], float_val=[1.0]),
        tensor(dtype=DataType.DT_FLOAT, shape=[1], tensor_content=b"???"),
        tensor(dtype=DataType.DT_BOOL, shape=[1], tensor_content=b"\2"),
        tensor(dtype=DataType.DT_STRING, shape=[2], tensor_content=b"\1"),
        tensor(dtype=DataType.DT_STRING, shape=[1], tensor_content=b"\2a"),
    ],
)
def test_a_malformed_tensor_is_rejected(proto: TensorProto) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(proto)


def test_types_have_the_names_of_tensorflow() -> None:
    assert type_name(np.dtype(np.float32)) == "DT_FLOAT"
    assert type_name(np.dtype("datetime64[s]")) == "DT_INVALID"
