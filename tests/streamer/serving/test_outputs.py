"""From the output of a reply to click probabilities."""

from typing import Any

import numpy as np
import pytest

from streamer.errors import BadReplyError
from streamer.serving.messages import predict_request, read_scores
from streamer.serving.protos import predict_pb2, types_pb2
from streamer.types import ModelVersion, ScoreOutput


def reply(values: Any, dtype: int = types_pb2.DT_FLOAT, field: str | None = None) -> Any:
    """A reply with the output `p`: its values in their field, or as bytes."""
    array = np.asarray(values)
    message = predict_pb2.PredictResponse()
    tensor = message.outputs["p"]
    tensor.dtype = dtype
    for size in array.shape:
        tensor.tensor_shape.dim.add().size = size
    if field is None:
        tensor.tensor_content = array.tobytes()
    else:
        getattr(tensor, field).extend(array.ravel().tolist())
    return message


def scores(message: Any, rows: int, *options: Any, **more: Any) -> list[float]:
    found: list[float] = read_scores(message, ScoreOutput("p", *options, **more), rows).ctr.tolist()
    return found


HALVES = np.array([0.25, 0.5], np.float16)
BFLOATS = np.array([0.25, 0.5], np.float32).view(np.uint32) >> 16


@pytest.mark.parametrize(
    ("message", "dtype"),
    [
        (reply([0.25, 0.5], types_pb2.DT_DOUBLE), "float64"),
        (reply([0.25, 0.5], types_pb2.DT_DOUBLE, "double_val"), "float64"),
        (reply(HALVES, types_pb2.DT_HALF), "float16"),
        (reply(HALVES.view(np.uint16), types_pb2.DT_HALF, "half_val"), "float16"),
        (reply(BFLOATS.astype(np.uint16), types_pb2.DT_BFLOAT16), "bfloat16"),
        (reply(BFLOATS.astype(np.uint16), types_pb2.DT_BFLOAT16, "half_val"), "bfloat16"),
        (reply(np.array([0.25, 0.5], np.float32)), "float16"),
    ],
)
def test_scores_of_each_dtype(message: Any, dtype: str) -> None:
    assert scores(message, 2, dtype=dtype) == [0.25, 0.5]


def test_logits() -> None:
    logits = np.array([[0.0], [-100.0], [np.inf], [np.nan], [100.0]], np.float32)
    found = read_scores(reply(logits), ScoreOutput("p", "sigmoid"), 5)
    assert found.ctr[[0, 4]].tolist() == [0.5, 1.0]
    assert 0 < found.ctr[1] < 1e-40
    # A model that diverged is not certain of a click.
    assert np.isnan(found.ctr[[2, 3]]).all()
    assert found.invalid == {"nan": 1, "infinite": 1}


def test_the_column_of_a_click() -> None:
    shares = np.array([[0.75, 0.25], [0.5, 0.5]], np.float32)
    assert scores(reply(shares), 2, None, 1) == [0.25, 0.5]
    assert scores(reply(np.log(shares)), 2, "softmax", 1) == pytest.approx([0.25, 0.5])
    assert scores(reply(np.array([[9.0, 0.0]], np.float32)), 1, "sigmoid", 1) == [0.5]
    broken = np.array([[np.inf, 0], [0, 0]], np.float32)
    assert np.isnan(scores(reply(broken), 2, "softmax", 1)[0])


def test_scores_of_padding_are_dropped() -> None:
    assert scores(reply(np.array([0.25, 0.5, 0.5], np.float32)), 1, padded_rows=3) == [0.25]


@pytest.mark.parametrize(
    ("message", "options", "detail"),
    [
        (reply([0.5], types_pb2.DT_DOUBLE), {}, "expected float32, got dtype 2"),
        (reply([1], types_pb2.DT_INT64), {"dtype": "float64"}, "expected float64, got dtype 9"),
        (reply(np.zeros((1, 2), np.float32)), {}, "expected 1 scores, got 2 of shape [1, 2]"),
        (reply(np.zeros(1, np.float32)), {"column": 1}, "expected 1 scores of more than 1 columns, got 1 of shape [1]"),
        (reply(np.zeros((1, 2), np.float32)), {"column": 2}, "expected 1 scores of more than 2 columns"),
        (reply(np.zeros(1, np.float32)), {"padded_rows": 3}, "expected 3 scores, got 1 of shape [1]"),
        (predict_pb2.PredictResponse(), {}, "expected float32, got dtype 0"),
    ],
)
def test_a_wrong_output_is_a_bad_reply(message: Any, options: dict[str, Any], detail: str) -> None:
    with pytest.raises(BadReplyError) as caught:
        scores(message, 1, **options)
    assert detail in str(caught.value)


def test_negative_sizes_are_a_bad_reply() -> None:
    message = reply(np.full(1, 0.5, np.float32))
    message.outputs["p"].tensor_shape.dim[0].size = -1
    message.outputs["p"].tensor_shape.dim.add().size = -1
    with pytest.raises(BadReplyError, match="got 1 of shape"):
        scores(message, 1)


def test_a_scalar_and_texts_in_a_request() -> None:
    texts = np.empty((2, 1), dtype=np.object_)
    texts[:, 0] = [b"a", b"\xff\x00"]
    request = predict_request(ModelVersion("m", 1), "s", {"flag": np.array(True), "texts": texts})
    flag, sent = request.inputs["flag"], request.inputs["texts"]
    assert (flag.dtype, flag.tensor_content, flag.HasField("tensor_shape")) == (types_pb2.DT_BOOL, b"\x01", True)
    assert (sent.dtype, list(sent.string_val)) == (types_pb2.DT_STRING, [b"a", b"\xff\x00"])
    assert [dim.size for dim in sent.tensor_shape.dim] == [2, 1]
