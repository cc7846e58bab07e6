"""From the output of a reply to click probabilities. Pure."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from streamer.errors import BadReplyError
from streamer.serving.protos import types_pb2
from streamer.types import F32, F64, ScoreOutput

_Floats = npt.NDArray[np.floating[Any]]
_MAX_DIMS = 8
# By dtype of the output: its number, the dtype of its bytes, and the field with its values.
# Without --enable_serialization_as_tensor_content TensorFlow Serving writes values.
_FORMS: dict[str, tuple[int, npt.DTypeLike, str]] = {
    "float32": (types_pb2.DT_FLOAT, np.float32, "float_val"),
    "float64": (types_pb2.DT_DOUBLE, np.float64, "double_val"),
    "float16": (types_pb2.DT_HALF, np.uint16, "half_val"),
    "bfloat16": (types_pb2.DT_BFLOAT16, np.uint16, "half_val"),
}
SCORE_DTYPES = tuple(_FORMS)
"""The dtypes that an output of scores can have."""


def output_values(tensor: Any, output: ScoreOutput, rows: int) -> _Floats:
    """The values of an output of `rows` rows, in its shape; of half precision as float32.

    Raises:
        BadReplyError: the dtype is another one, or the number of values contradicts the shape.
    """
    name = output.name
    # REST does not tell the dtype; its reply counts as float32.
    form = _FORMS["float32" if tensor.dtype == types_pb2.DT_FLOAT else output.dtype]
    number, dtype, values_field = form
    if tensor.dtype != number:
        raise BadReplyError("INVALID_REPLY", f"output {name!r}: expected {output.dtype}, got dtype {tensor.dtype}")
    content = tensor.tensor_content
    if len(content) % np.dtype(dtype).itemsize:
        raise BadReplyError("INVALID_REPLY", f"output {name!r}: expected {rows} scores, got {len(content)} bytes")
    values = np.frombuffer(content, dtype) if content else np.array(getattr(tensor, values_field), dtype)
    if number == types_pb2.DT_HALF:
        values = values.view(np.float16).astype(np.float32)
    elif number == types_pb2.DT_BFLOAT16:
        values = (values.astype(np.uint32) << 16).view(np.float32)
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    # Two negative sizes have a positive product.
    if min(shape, default=0) < 0 or math.prod(shape) != len(values):
        detail = f"expected {rows} scores, got {len(values)} of shape {shape[:_MAX_DIMS]}"
        raise BadReplyError("INVALID_REPLY", f"output {name!r}: {detail}")
    return values.reshape(shape)


def probabilities(values: _Floats, output: ScoreOutput, rows: int) -> F32:
    """The click probabilities in an output, float32 [rows]; not checked to be in [0, 1].

    Raises:
        BadReplyError: the shape is wrong.
    """
    expected = rows if output.padded_rows is None else output.padded_rows
    has_columns = output.column is not None
    is_wrong = values.ndim != 2 or values.shape[0] != expected or values.shape[1] <= (output.column or 0)
    if is_wrong if has_columns else values.size != expected:
        columns = f" of more than {output.column} columns" * has_columns
        detail = f"expected {expected} scores{columns}, got {values.size} of shape {list(values.shape[:_MAX_DIMS])}"
        raise BadReplyError("INVALID_REPLY", f"output {output.name!r}: {detail}")
    if output.activation == "softmax":
        values = _softmax(values.astype(np.float64))
    if output.column is not None:
        values = values[:, output.column]
    if output.activation == "sigmoid":
        values = _sigmoid(values.astype(np.float64))
    return values.reshape(-1)[:rows].astype(np.float32, copy=False)


def _sigmoid(logits: F64) -> F64:
    """1 / (1 + exp(−x)); a logit that is not finite has no probability and stays."""
    with np.errstate(invalid="ignore"):
        found = np.exp(-np.logaddexp(0.0, -logits))
    return np.where(np.isfinite(logits), found, logits)


def _softmax(logits: F64) -> F64:
    """exp(x_i) / Σ_j exp(x_j) of each row; NaN if a logit of the row is not finite."""
    with np.errstate(invalid="ignore"):
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        found = shares / shares.sum(axis=1, keepdims=True)
    return np.where(np.isfinite(logits).all(axis=1, keepdims=True), found, np.nan)
