"""Records to batches, by tf.data: interleaved shards, shuffled as bytes, parsed a batch at a time."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import tensorflow as tf

from model_training.manifest import Manifest

_OPEN_SHARDS = 16
_READ_BYTES = 1 << 20
_ALL = (0, 1)

Batch = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


def batches(
    directory: Path,
    manifest: Manifest,
    batch_size: int,
    *,
    epochs: int | None = 1,
    shuffle_buffer: int = 0,
    seed: int = 1,
    deterministic: bool = True,
    share: tuple[int, int] = _ALL,
    skip: int = 0,
) -> tf.data.Dataset:
    """Batches of (ids int32 [b, row_ids], floats float32 [b, row_floats], labels float32 [b]).

    Args:
        epochs: passes over the records, after which the last batch may be short; None for passes without end.
        shuffle_buffer: examples among which the next one is drawn, anew each epoch; 0 keeps the order of the shards.
        deterministic: the same order each time for one `seed`; otherwise shards deliver as fast as each one can.
        share: (i, n) for every n-th example, from the i-th on: with all i, each example once.
        skip: batches to leave out at the beginning; those that follow are the same as without.
    """
    # Shares are disjoint only if all who take one see the same order.
    ordered = deterministic or share != _ALL
    data = records(directory, manifest, shuffle=bool(shuffle_buffer), seed=seed, deterministic=ordered)
    if share != _ALL:
        data = data.shard(share[1], share[0])
    if shuffle_buffer:
        data = data.shuffle(shuffle_buffer, seed=seed, reshuffle_each_iteration=True)
    return (
        data.repeat(epochs)
        .batch(batch_size)
        .skip(skip)
        .map(parser(manifest), num_parallel_calls=tf.data.AUTOTUNE, deterministic=deterministic)
        .prefetch(tf.data.AUTOTUNE)
    )


def records(
    directory: Path, manifest: Manifest, *, shuffle: bool = False, seed: int = 1, deterministic: bool = True
) -> tf.data.Dataset:
    """The serialised examples of all shards once, interleaved; with `shuffle` the shards' order is drawn."""
    files = [str(directory / shard.file) for shard in manifest.shards if shard.examples]
    names = tf.data.Dataset.from_tensor_slices(files)
    if shuffle:
        # Which shards are open together decides who can meet in the buffer, where that is smaller than the log.
        names = names.shuffle(len(files), seed=seed, reshuffle_each_iteration=True)
    return names.interleave(
        partial(tf.data.TFRecordDataset, compression_type=manifest.compression, buffer_size=_READ_BYTES),
        cycle_length=min(len(files), _OPEN_SHARDS),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=deterministic,
    )


def parser(manifest: Manifest) -> Callable[[tf.Tensor], Batch]:
    """A function of serialised examples [b], which makes one of the batches that `batches` gives."""
    features = {
        "ids": tf.io.FixedLenFeature([manifest.row_ids], tf.int64),
        "label": tf.io.FixedLenFeature([], tf.int64),
    }
    if manifest.row_floats:
        features["floats"] = tf.io.FixedLenFeature([manifest.row_floats], tf.float32)

    def parse(serialized: tf.Tensor) -> Batch:
        example = tf.io.parse_example(serialized, features)
        floats = example["floats"] if manifest.row_floats else tf.zeros([tf.shape(serialized)[0], 0])
        return tf.cast(example["ids"], tf.int32), floats, tf.cast(example["label"], tf.float32)

    return parse
