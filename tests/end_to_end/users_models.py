"""`python -m tests.end_to_end.users_models FOLDER`: models as users of TensorFlow and Keras build and export them.

For each model NAME it writes the SavedModel NAME/1, and what the model itself predicts for `REQUESTS`. The spec files
are in docs/bring-your-own-model.md.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.end_to_end.users_requests import REQUESTS, WORDS

_Row = dict[str, Any]
"""The values of one candidate: those of user, context and candidate, by the names of the models' inputs."""


def rows() -> list[_Row]:
    """The candidates of all requests, in order; a missing value is absent."""
    found = []
    for request in REQUESTS:
        for candidate in request["candidates"]:
            row = {**request["user"], **request["context"], **candidate}
            found.append({name: value for name, value in row.items() if value not in (None, [], "")})
    return found


def column(name: str, default: Any) -> list[Any]:
    return [row.get(name, default) for row in rows()]


def padded(name: str, width: int, fill: Any) -> list[list[Any]]:
    return [(list(values) + [fill] * width)[:width] for values in column(name, [])]


FEATURES = {
    "sex": tf.io.FixedLenFeature([], tf.string, ""),
    "likes": tf.io.VarLenFeature(tf.string),
    "category": tf.io.FixedLenFeature([1], tf.string),
    "item": tf.io.FixedLenFeature([], tf.int64, -1),
    "hour": tf.io.FixedLenFeature([], tf.float32, 12.0),
    "bid": tf.io.FixedLenFeature([], tf.float32),
}


class EstimatorStyle(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """A linear classifier that parses Examples and hashes strings in the graph, as `tf.estimator` exports it."""

    def __init__(self) -> None:
        super().__init__()
        source = np.random.default_rng(1)
        self.weights = tf.Variable(source.normal(0, 1, 1000), dtype=tf.float32)
        self.slopes = tf.Variable([[0.05], [-0.3]], dtype=tf.float32)

    def weight(self, texts: Any) -> Any:
        return tf.gather(self.weights, tf.strings.to_hash_bucket_fast(texts, 1000))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])  # type: ignore[untyped-decorator]
    def predict(self, examples: Any) -> dict[str, Any]:
        parsed = tf.io.parse_example(examples, FEATURES)
        likes = tf.sparse.map_values(self.weight, parsed["likes"])
        item = tf.gather(self.weights, tf.maximum(parsed["item"], 0) % 1000)
        numbers = tf.stack([parsed["hour"], parsed["bid"]], axis=1) @ self.slopes
        sparse = self.weight(parsed["sex"]) + self.weight(parsed["category"][:, 0]) + item
        logits = (sparse + tf.sparse.reduce_sum(likes, axis=1))[:, tf.newaxis] + numbers
        both = tf.concat([tf.zeros_like(logits), logits], axis=1)
        return {"logits": logits, "probabilities": tf.nn.softmax(both), "class_ids": tf.argmax(both, axis=1)}


def serialized(row: _Row) -> bytes:
    """The Example that a user's own client would send for a row."""
    example = tf.train.Example()
    for name, kind in FEATURES.items():
        values = row.get(name, {"bid": 1.5, "category": "none"}.get(name))
        if values is None:
            continue
        values = values if isinstance(values, list) else [values]
        feature = example.features.feature[name]
        if kind.dtype == tf.string:
            feature.bytes_list.value.extend(str(value).encode() for value in values)
        elif kind.dtype == tf.int64:
            feature.int64_list.value.extend(values)
        else:
            feature.float_list.value.extend(map(float, values))
    return bytes(example.SerializeToString())


def estimator_style(path: str) -> Any:
    model = EstimatorStyle()
    tf.saved_model.save(model, path, {"serving_default": model.predict})
    return model.predict(tf.constant([serialized(row) for row in rows()]))["probabilities"][:, 1]


def keras_functional(path: str) -> Any:
    """A functional model with its preprocessing layers inside."""
    layers = keras.layers
    inputs = {
        "sex": keras.Input((1,), dtype="string", name="sex"),
        "likes": keras.Input((3,), dtype="string", name="likes"),
        "category": keras.Input((1,), dtype="string", name="category"),
        "hour": keras.Input((1,), name="hour"),
        "bid": keras.Input((1,), name="bid"),
    }
    known = layers.StringLookup(vocabulary=["f", "m"], mask_token="")
    likes = layers.Embedding(50, 4)(layers.Hashing(50, mask_value="")(inputs["likes"]))
    category = layers.Embedding(100, 4)(layers.Hashing(100, salt=7)(inputs["category"]))
    parts = [
        layers.CategoryEncoding(known.vocabulary_size(), output_mode="one_hot")(known(inputs["sex"])),
        layers.GlobalAveragePooling1D()(likes),
        layers.Flatten()(category),
        layers.Normalization(mean=12.0, variance=49.0)(inputs["hour"]),
        layers.Normalization(mean=2.0, variance=4.0)(inputs["bid"]),
    ]
    hidden = layers.Dense(8, activation="relu")(layers.Concatenate()(parts))
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid", name="ctr")(hidden))
    model.export(path, format="tf_saved_model", verbose=False)
    texts = {name: tf.constant(column(name, ""))[:, tf.newaxis] for name in ("sex", "category")}
    numbers = {name: np.array([column(name, default)], np.float32).T for name, default in (("hour", 12), ("bid", 2))}
    return model.predict({**texts, "likes": tf.constant(padded("likes", 3, "")), **numbers}, verbose=0)[:, 0]


def two_tower(path: str) -> Any:
    """A ranker with a tower for the user and one for the ad; its preprocessing is in the training pipeline."""
    layers = keras.layers
    user_id = keras.Input((), dtype="int64", name="user_id")
    history = keras.Input((4,), dtype="int64", name="history")
    word = keras.Input((), dtype="int64", name="word")
    category = keras.Input((), dtype="int64", name="category")
    mode = keras.Input((), dtype="int32", name="mode")
    item = layers.Embedding(1000, 6)
    pooled = layers.GlobalAveragePooling1D()(item(history))
    user = layers.Dense(6)(layers.Concatenate()([layers.Embedding(500, 6)(user_id), pooled]))
    ad = layers.Dense(6)(layers.Concatenate()([layers.Embedding(9, 6)(word), layers.Embedding(64, 6)(category)]))
    logits = layers.Dot(axes=1)([user, ad]) + 0.1 * keras.ops.cast(mode, "float32")[:, None]
    model = keras.Model([user_id, history, word, category, mode], layers.Reshape((), name="logits")(logits[:, 0]))
    model.export(path, format="tf_saved_model", verbose=False)
    table = tf.lookup.StaticVocabularyTable(
        tf.lookup.KeyValueTensorInitializer(tf.constant(WORDS), tf.range(len(WORDS), dtype=tf.int64)), 4
    )
    hashing = layers.Hashing(64, salt=[3, 9])
    found = model.predict(
        [
            np.array(column("id", 0)),
            np.array(padded("seen", 4, 0)),
            table.lookup(tf.constant(column("word", ""))),
            hashing(tf.constant(column("category", ""))),
            np.full(len(rows()), 2, np.int32),
        ],
        verbose=0,
    )
    return tf.sigmoid(found)


def deep_fm(path: str) -> Any:
    """DeepFM on a FeatureSpace, the successor of feature columns."""
    space = keras.utils.FeatureSpace
    features = space(
        {
            "sex": space.string_categorical(num_oov_indices=1, output_mode="int"),
            "category": space.string_hashed(num_bins=40, output_mode="int"),
            "item": space.integer_hashed(num_bins=30, output_mode="int"),
            "hour": space.float_normalized(),
        },
        output_mode="dict",
    )
    sample = {"sex": ["f", "m"], "category": ["x", "y"], "item": [1, 2], "hour": [8.0, 16.0]}
    features.adapt(tf.data.Dataset.from_tensor_slices(sample))
    encoded, layers = features.get_encoded_features(), keras.layers
    sizes = {"sex": 4, "category": 40, "item": 30}
    vectors = [layers.Flatten()(layers.Embedding(size, 5)(encoded[name])) for name, size in sizes.items()]
    linear = [layers.Flatten()(layers.Embedding(size, 1)(encoded[name])) for name, size in sizes.items()]
    total = layers.Add()(vectors)
    squares = layers.Add()([vector * vector for vector in vectors])
    pairs = 0.5 * keras.ops.sum(total * total - squares, axis=1, keepdims=True)
    deep = layers.Dense(8, activation="relu")(layers.Concatenate()([*vectors, encoded["hour"]]))
    logits = layers.Add()([*linear, pairs, layers.Dense(1)(deep)])
    model = keras.Model(features.get_inputs(), keras.ops.sigmoid(logits))
    model.export(path, format="tf_saved_model", verbose=False)
    items = [value if value < 2**31 else 0 for value in column("item", 0)]  # its input is int32
    columns = {"sex": column("sex", ""), "category": column("category", ""), "item": items}
    tensors = {name: tf.constant(values)[:, tf.newaxis] for name, values in columns.items()}
    return model.predict({**tensors, "hour": np.array([column("hour", 12)], np.float32).T}, verbose=0)[:, 0]


class OneRow(tf.Module):  # type: ignore[misc]
    """A model that was exported for one row."""

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec([1, 2], tf.float32, "numbers"), tf.TensorSpec([], tf.bool, "training")]
    )
    def predict(self, numbers: Any, training: Any) -> dict[str, Any]:
        value = tf.cast(tf.reduce_sum(numbers, axis=1), tf.float64) / 10.0
        return {"logits": tf.where(training, value * 100.0, value)}


def one_row(path: str) -> Any:
    model = OneRow()
    tf.saved_model.save(model, path, {"serving_default": model.predict})
    numbers = np.stack([column("hour", 12), column("bid", 2)], axis=1).astype(np.float32)
    return [tf.sigmoid(model.predict(row[np.newaxis], False)["logits"])[0].numpy() for row in numbers]


MODELS: dict[str, Callable[[str], Any]] = {
    "estimator-style": estimator_style,
    "keras-functional": keras_functional,
    "two-tower": two_tower,
    "deep-fm": deep_fm,
    "one-row": one_row,
}


def main(folder: Path) -> None:
    """Writes all models, and `expected.json`: the predictions of each."""
    keras.utils.set_random_seed(7)
    expected = {name: np.asarray(build(str(folder / name / "1"))).tolist() for name, build in MODELS.items()}
    (folder / "expected.json").write_text(json.dumps(expected), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
