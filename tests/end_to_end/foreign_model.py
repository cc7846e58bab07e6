"""`python -m tests.end_to_end.foreign_model FOLDER`: a SavedModel of another project.

Its one signature has the inputs of docs/bring-your-own-model.md; its scores show the inputs that it received.
"""

import sys
from typing import Any

import tensorflow as tf

INPUTS = [
    tf.TensorSpec([None], tf.int64, "sex"),
    tf.TensorSpec([None, 3], tf.int64, "likes"),
    tf.TensorSpec([None], tf.int32, "ad"),
    tf.TensorSpec([None, 2], tf.float32, "numbers"),
]


class Model(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """probability = (sex + 10 (number of likes) + 100 (hour + bid)) / 10,000; 0 without ad."""

    @tf.function(input_signature=INPUTS)  # type: ignore[untyped-decorator]
    def predict(self, sex: Any, likes: Any, ad: Any, numbers: Any) -> dict[str, Any]:
        count = tf.reduce_sum(tf.cast(likes > 0, tf.float32), axis=1)
        value = tf.cast(sex, tf.float32) + 10.0 * count + 100.0 * tf.reduce_sum(numbers, axis=1)
        return {"probability": tf.where(ad > 0, value, 0.0)[:, tf.newaxis] / 10_000.0}


if __name__ == "__main__":
    model = Model()
    tf.saved_model.save(model, sys.argv[1], {"serving_default": model.predict})
