"""Records to batches, by tf.data: interleaved shards, shuffled as bytes, parsed a batch at a time."""

from pathlib import Path

import tensorflow as tf

from model_training.records import Manifest


def batches(
    directory: Path,
    manifest: Manifest,
    batch_size: int,
    *,
    epochs: int | None = 1,
    shuffle_buffer: int = 0,
    seed: int = 1,
    deterministic: bool = True,
    share: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Batches of (ids int32 [b, row_ids], floats float32 [b, row_floats], labels float32 [b]).

    Args:
        epochs: passes over the records, after which the last batch may be short; None for passes without end.
        shuffle_buffer: examples among which the next one is drawn, anew each epoch; 0 keeps the order of the shards.
        deterministic: the same order each time for one `seed`; otherwise shards deliver as fast as each one can.
        share: (i, n) for every n-th example, from the i-th on: with all i, each example once.
    """
    files = [str(directory / shard.file) for shard in manifest.shards if shard.examples]
    data = tf.data.Dataset.from_tensor_slices(files).interleave(
        tf.data.TFRecordDataset,
        cycle_length=len(files),
        num_parallel_calls=tf.data.AUTOTUNE,
        # Shares are disjoint only if all who take one see the same order.
        deterministic=deterministic or share != (0, 1),
    )
    if share != (0, 1):
        data = data.shard(share[1], share[0])
    if shuffle_buffer:
        data = data.shuffle(shuffle_buffer, seed=seed, reshuffle_each_iteration=True)
    features = {
        "ids": tf.io.FixedLenFeature([manifest.row_ids], tf.int64),
        "label": tf.io.FixedLenFeature([], tf.int64),
    }
    if manifest.row_floats:
        features["floats"] = tf.io.FixedLenFeature([manifest.row_floats], tf.float32)

    def parse(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        example = tf.io.parse_example(serialized, features)
        floats = example["floats"] if manifest.row_floats else tf.zeros([tf.shape(serialized)[0], 0])
        return tf.cast(example["ids"], tf.int32), floats, tf.cast(example["label"], tf.float32)

    return (
        data.repeat(epochs)
        .batch(batch_size)
        .map(parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=deterministic)
        .prefetch(tf.data.AUTOTUNE)
    )
