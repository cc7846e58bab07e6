"""Warm-up requests: TensorFlow Serving replays them before a loaded version serves.

The file `assets.extra/tf_serving_warmup_requests` has one `PredictionLog` per record.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog, PredictLog

from streamer.features import GROUPS, Group, Layout
from streamer.types import F32, I32

WARMUP = Path("assets.extra", "tf_serving_warmup_requests")
"""Path of the file inside a version's folder."""

_SCORE_SIZES = ((1, 1), (1, 300), (4, 1200))
"""Numbers of requests and candidates in each `score` call."""
_FLAT_SIZES = (1, 300)


def write_warmup(layout: Layout, path: Path, model_name: str) -> None:
    """Writes requests of both scoring signatures, with random ids from each feature's own rows.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tf.io.TFRecordWriter(str(path)) as writer:
            for request in _requests(layout, model_name):
                writer.write(PredictionLog(predict_log=PredictLog(request=request)).SerializeToString())
    except tf.errors.OpError as error:
        raise OSError(f"{path}: {error.message}") from error


def _requests(layout: Layout, model_name: str) -> Iterator[PredictRequest]:
    rng = np.random.default_rng(0)
    for requests, rows in _SCORE_SIZES:
        inputs: dict[str, I32 | F32] = {}
        for group in GROUPS:
            n = requests if group == "request" else rows
            inputs[f"{group}_ids"] = _ids(layout, group, n, rng)
            inputs[f"{group}_floats"] = np.zeros((n, layout.float_width(group)), dtype=np.float32)
        inputs["row_to_request"] = np.sort(np.arange(rows, dtype=np.int32) % requests)
        yield _request(model_name, "score", inputs)
    for rows in _FLAT_SIZES:
        ids = np.hstack([_ids(layout, group, rows, rng) for group in GROUPS])
        floats = np.zeros((rows, layout.row_floats), dtype=np.float32)
        yield _request(model_name, "serving_default", {"ids": ids, "floats": floats})


def _ids(layout: Layout, group: Group, rows: int, rng: np.random.Generator) -> I32:
    columns = [
        rng.integers(c.offset, c.offset + c.rows, size=(rows, c.width), dtype=np.int32) for c in layout.ids[group]
    ]
    return np.hstack(columns) if columns else np.empty((rows, 0), dtype=np.int32)


def _request(model_name: str, signature: str, inputs: Mapping[str, I32 | F32]) -> PredictRequest:
    request = PredictRequest()
    request.model_spec.name = model_name
    request.model_spec.signature_name = signature
    for name, values in inputs.items():
        if values.ndim == 1 or values.shape[1]:
            request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    return request
