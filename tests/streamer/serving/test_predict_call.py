"""The bytes of a request without a message are those of the message."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from streamer.serving.predict_call import PredictCall, message_of
from streamer.serving.protos import predict_pb2
from streamer.types import ModelVersion, Tensor

SHAPES = arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=40)
TENSORS = st.one_of(
    *(arrays_of.arrays(dtype, SHAPES) for dtype in (np.float32, np.float64, np.int32, np.int64, np.bool_))
)


@given(
    name=st.text(max_size=200).filter(lambda text: text.isprintable()),
    version=st.integers(0, 2**63 - 1),
    arrays=st.dictionaries(st.sampled_from(["ids", "größe", "n" * 130]), TENSORS),
)
def test_the_bytes_are_those_of_an_equal_message(name: str, version: int, arrays: dict[str, Tensor]) -> None:
    call = PredictCall(ModelVersion(name, version), "score", arrays)
    assert predict_pb2.PredictRequest.FromString(call.SerializeToString()) == call.message() == message_of(call)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.int32).reshape(3, 4)[:, ::2],
        np.array([[b"a", b"b"]], dtype=np.object_),
    ],
    ids=["not contiguous", "texts"],
)
def test_arrays_that_are_not_copied_as_they_are(array: Tensor) -> None:
    call = PredictCall(ModelVersion("m", 1), "score", {"x": array, "y": np.zeros(2, np.float32)})
    assert predict_pb2.PredictRequest.FromString(call.SerializeToString()) == call.message()


def test_a_message_is_its_own() -> None:
    message = predict_pb2.PredictRequest()
    assert message_of(message) is message
