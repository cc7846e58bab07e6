"""Batches of records by tf.data: shards interleaved, records parsed and shuffled in bulk."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import tensorflow as tf

from model_training.config.training import TrainingConfig
from model_training.data.manifest import Manifest

_OPEN_SHARDS = 16
_READ_BYTES = 1 << 20
_ALL = (0, 1)

Batch = tuple[tf.Tensor, ...]


def training_batches(
    directory: Path,
    manifest: Manifest,
    config: TrainingConfig,
    *,
    epochs: int | None,
    share: tuple[int, int] = _ALL,
    skip: int = 0,
) -> tf.data.Dataset:
    """Calls `batches` with a config's settings for training."""
    return batches(
        directory,
        manifest,
        config.batch_size,
        epochs=epochs,
        shuffle_buffer=config.shuffle_buffer,
        seed=config.seed,
        deterministic=config.deterministic,
        share=share,
        skip=skip,
    )


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
    identities: bool = False,
) -> tf.data.Dataset:
    """Batches of (ids int32 [b, row_ids], floats float32 [b, row_floats], labels float32 [b]).

    Records with weights add weights float32 [b].

    Args:
        epochs: passes over the records; None for passes without end. The last batch may be short.
        shuffle_buffer: number of consecutive examples that are shuffled together, in a new order in each epoch; 0
            keeps the order of the shards.
        deterministic: a `seed` always gives the same order; otherwise each shard delivers as fast as it can.
        share: (i, n): every n-th example, starting with the i-th. All i together cover each example once.
        skip: number of batches to skip at the beginning; it does not change the batches that follow.
        identities: adds (users, requests, times), int64 [b]: the bits of `Identities`. Training does not parse them.
    """
    # Shares are disjoint only if all processes see the same order.
    ordered = deterministic or share != _ALL
    data = records(directory, manifest, shuffle=bool(shuffle_buffer), seed=seed, deterministic=ordered)
    data = data.batch(-(-max(shuffle_buffer, batch_size) // manifest.rows_per_record))
    data = data.map(parser(manifest, identities=identities), num_parallel_calls=tf.data.AUTOTUNE, deterministic=ordered)
    if share != _ALL:
        data = data.scan(tf.constant(0, tf.int64), partial(_take_share, share))
    if shuffle_buffer:
        seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
        data = tf.data.Dataset.zip(seeds, data).map(
            partial(_shuffled, seed), num_parallel_calls=tf.data.AUTOTUNE, deterministic=ordered
        )
    return data.repeat(epochs).rebatch(batch_size).skip(skip).prefetch(tf.data.AUTOTUNE)


def records(
    directory: Path, manifest: Manifest, *, shuffle: bool = False, seed: int = 1, deterministic: bool = True
) -> tf.data.Dataset:
    """The serialised records of all shards once, interleaved.

    `shuffle` randomises the order of the shards.
    """
    files = [str(directory / shard.file) for shard in manifest.shards if shard.examples]
    names = tf.data.Dataset.from_tensor_slices(files)
    if shuffle:
        # Only examples of shards that are open at the same time can be shuffled together.
        names = names.shuffle(len(files), seed=seed, reshuffle_each_iteration=True)
    return names.interleave(
        partial(tf.data.TFRecordDataset, compression_type=manifest.compression, buffer_size=_READ_BYTES),
        cycle_length=min(len(files), _OPEN_SHARDS),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=deterministic,
    )


def parser(manifest: Manifest, *, identities: bool = False) -> Callable[[tf.Tensor], Batch]:
    """A function that parses serialised records [k] into one batch with all their rows."""
    more = {"weights": tf.float32} if manifest.has_weights else {}
    if identities:
        more |= dict.fromkeys(("users", "requests", "times"), tf.int64)
    features = {name: tf.io.FixedLenFeature([], tf.string) for name in ("ids", "floats", "labels", *more)}

    def parse(serialized: tf.Tensor) -> Batch:
        record = tf.io.parse_example(serialized, features)

        def values(name: str, dtype: tf.DType) -> tf.Tensor:
            return tf.io.decode_raw(tf.strings.reduce_join(record[name]), dtype)

        labels = tf.cast(values("labels", tf.int8), tf.float32)
        n = tf.size(labels)
        ids = tf.reshape(values("ids", tf.int32), [n, manifest.row_ids])
        floats = tf.reshape(values("floats", tf.float32), [n, manifest.row_floats])
        return ids, floats, labels, *(values(name, dtype) for name, dtype in more.items())

    return parse


def _take_share(share: tuple[int, int], before: tf.Tensor, rows: Batch) -> tuple[tf.Tensor, Batch]:
    """The share's part of `rows`, which follow `before` others, and the next `before`."""
    i, n = share
    return before + tf.size(rows[-1], tf.int64), tuple(part[(i - before) % n :: n] for part in rows)


def _shuffled(seed: int, drawn: tf.Tensor, rows: Batch) -> Batch:
    order = tf.random.experimental.stateless_shuffle(
        tf.range(tf.size(rows[-1])), seed=tf.stack([tf.constant(seed, tf.int64), drawn])
    )
    return tuple(tf.gather(part, order) for part in rows)
