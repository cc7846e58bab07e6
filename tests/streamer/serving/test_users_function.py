"""Raw values reach a function of TensorFlow as its own client would send them."""

from typing import Any

import numpy as np
import orjson
import pytest

from streamer.features import Encoder, FeatureSpec
from streamer.serving.flat_signature import FlatSignature
from streamer.types import BatchInputs, BidRequest, SignatureInfo, TensorInfo

pytestmark = pytest.mark.tensorflow

FEATURES: list[dict[str, object]] = [
    {"name": "sex", "path": "user.sex", "side": "user", "kind": "text"},
    {"name": "likes", "path": "user.likes", "side": "user", "kind": "text", "max_values": 9},
    {"name": "hour", "path": "hour", "side": "context", "kind": "numeric", "deep": True},
    {"name": "item", "path": "item", "side": "candidate", "kind": "integer"},
    {"name": "category", "path": "category", "side": "candidate", "kind": "text"},
    {"name": "bucket", "path": "category", "side": "candidate", "kind": "hashing", "num_bins": 1000},
    {"name": "strong", "path": "category", "side": "candidate", "kind": "hashing", "num_bins": 99, "salt": [1, 2]},
]
SERVING = {
    "output": "p",
    "inputs": {
        "examples": {"example": {"s": "sex", "l": "likes", "h": "hour", "i": "item", "b": "bucket"}},
        "category": ["category"],
        "buckets": ["bucket", "strong"],
    },
}
FOUND = SignatureInfo(
    {
        "examples": TensorInfo("string", (-1,)),
        "category": TensorInfo("string", (-1,)),
        "buckets": TensorInfo("int64", (-1, 2)),
    },
    {"p": TensorInfo("float32", (-1,))},
)


def test_examples_texts_and_buckets_are_those_of_tensorflow() -> None:
    import tensorflow as tf  # noqa: PLC0415

    spec = FeatureSpec.from_mapping({"name": "s", "embedding_dim": 1, "features": FEATURES, "serving": SERVING})
    encoder = Encoder(spec)
    assert spec.serving is not None
    flat = FlatSignature(encoder.layout, spec.serving, FOUND)
    categories = ["", "a", "Ü" * 9, "x" * 40, "y" * 200, 18]
    candidates = [{"ad_id": "a", "category": category, "item": i - 2} for i, category in enumerate(categories)]
    user = {"user": {"sex": "f", "likes": ["x", "y"]}, "hour": "3.25"}
    request = BidRequest("r", user, len(candidates), rows=[orjson.dumps(c) for c in candidates])
    inputs: Any = flat.tensors(BatchInputs.whole(encoder.encode(request)))
    texts = tf.constant(inputs["category"].tolist())
    parsed = tf.io.parse_example(
        tf.constant(inputs["examples"].tolist()),
        {
            "s": tf.io.FixedLenFeature([], tf.string),
            "l": tf.io.VarLenFeature(tf.string),
            "h": tf.io.FixedLenFeature([], tf.float32),
            "i": tf.io.FixedLenFeature([], tf.int64),
            "b": tf.io.FixedLenFeature([], tf.int64, -1),
        },
    )
    n = len(categories)
    assert parsed["s"].numpy().tolist() == [b"f"] * n
    assert tf.sparse.to_dense(parsed["l"]).numpy().tolist() == [[b"x", b"y"]] * n
    assert parsed["h"].numpy().tolist() == [3.25] * n
    assert parsed["i"].numpy().tolist() == list(range(-2, n - 2))
    fast = tf.strings.to_hash_bucket_fast(texts, 1000).numpy()
    strong = tf.strings.to_hash_bucket_strong(texts, 99, [1, 2]).numpy()
    assert inputs["buckets"].tolist() == np.stack([fast, strong], axis=1).tolist()
    # A missing value has no entry in the Example, but is the empty text in an input.
    assert parsed["b"].numpy().tolist() == [-1, *fast[1:].tolist()]
