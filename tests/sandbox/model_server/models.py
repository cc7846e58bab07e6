"""Makes the small SavedModels of these tests, so that no test process loads TensorFlow.

`python -m tests.sandbox.model_server.models FOLDER` writes FOLDER/plus_two, FOLDER/plus_three, and two files of warm-up
requests for them: FOLDER/warmup_count calls `count` three times, FOLDER/warmup_wrong calls a missing signature.
"""

import sys
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

FLOATS = tf.TensorSpec([None, 1], tf.float32, "x")


class Model(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """y = 0.5 x + offset, and one signature for each feature of a server."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.half = tf.Variable(0.5)
        self.offset = tf.Variable(offset)
        self.calls = tf.Variable(0)
        self.weights = tf.constant([[1.0], [10.0]])

    @tf.function(input_signature=[FLOATS])  # type: ignore[untyped-decorator]
    def line(self, x: Any) -> dict[str, Any]:
        return {"y": self.half * x + self.offset, "twice": 2.0 * x}

    @tf.function(input_signature=[])  # type: ignore[untyped-decorator]
    def feature_spec(self) -> dict[str, Any]:
        return {"spec": tf.constant(b"name: tiny\n")}

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[
            tf.TensorSpec([None, 2], tf.float32, "user"),
            tf.TensorSpec([None, 1], tf.int32, "candidate"),
            tf.TensorSpec([None], tf.int32, "row_to_request"),
        ]
    )
    def score(self, user: Any, candidate: Any, row_to_request: Any) -> dict[str, Any]:
        """One value per candidate: its user's (u1 + 10 u2), gathered, plus its own."""
        users = tf.gather(tf.matmul(user, self.weights), row_to_request)
        return {"ctr": tf.squeeze(users + tf.cast(candidate, tf.float32), axis=1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "words")])  # type: ignore[untyped-decorator]
    def join(self, words: Any) -> dict[str, Any]:
        return {"words": tf.strings.join([words, "!"]), "lengths": tf.strings.length(words)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.int64, "steps")])  # type: ignore[untyped-decorator]
    def slow(self, steps: Any) -> dict[str, Any]:
        return {"sum": tf.while_loop(lambda n, _: n < steps, lambda n, s: (n + 1, s + n), (0 * steps, 0 * steps))[1]}

    @tf.function(input_signature=[])  # type: ignore[untyped-decorator]
    def count(self) -> dict[str, Any]:
        return {"calls": self.calls.assign_add(1)}


def write_warmup(file: Path, signature: str, times: int) -> None:
    log = PredictionLog()
    log.predict_log.request.model_spec.signature_name = signature
    with tf.io.TFRecordWriter(str(file)) as writer:
        for _ in range(times):
            writer.write(log.SerializeToString())


def main(folder: Path) -> None:
    for name, offset in {"plus_two": 2.0, "plus_three": 3.0}.items():
        model = Model(offset)
        signatures = {name: getattr(model, name) for name in ("feature_spec", "score", "join", "slow", "count")}
        tf.saved_model.save(model, str(folder / name), {"serving_default": model.line, **signatures})
    write_warmup(folder / "warmup_count", "count", 3)
    write_warmup(folder / "warmup_wrong", "nothing", 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
