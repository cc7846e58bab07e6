"""Encoded examples on disk: shards of TFRecord with one `tf.train.Example` an impression, and a manifest beside them.

An example holds packed lists, which parse many times faster than a key for each feature: `ids` int64 [row_ids],
`floats` float32 [row_floats] (no key where the spec has none) and `label` int64 [1].
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import tensorflow as tf

from model_training.click_log import Examples
from model_training.errors import DataError, in_a_line
from model_training.manifest import MANIFEST, Manifest, Shard, sha256_of, write_manifest
from streamer.features import Encoder, FeatureSpec, Layout


def encode_table(
    values: Mapping[str, Sequence[object]], labels: Sequence[int], encoder: Encoder, *, chunk: int = 4096
) -> Iterator[Examples]:
    """Encodes data that stand in columns: feature name → a value for each label.

    Raises:
        DataError: a column that is no feature of the spec or has another length, or a label that is not 0 or 1.
    """
    known = {f.name for f in encoder.spec.features}
    for name, column in values.items():
        if name not in known:
            raise DataError(f"column {name!r}: spec {encoder.spec.name!r} has no such feature")
        if len(column) != len(labels):
            raise DataError(f"column {name!r}: {len(column)} values for {len(labels)} labels")
    for i, label in enumerate(labels):
        if label not in (0, 1):
            raise DataError(f"labels[{i}]: expected 0 or 1, got {label!r}")
    for start in range(0, len(labels), chunk):
        part = slice(start, start + chunk)
        clicked = np.array(labels[part], dtype=np.int8)
        columns = {name: column[part] for name, column in values.items()}
        yield Examples(*encoder.encode_table(columns, len(clicked)), clicked)


def write_records(
    examples: Iterable[Examples],
    directory: Path,
    spec: FeatureSpec,
    *,
    shards: int = 4,
    negative_sampling_rate: float = 1.0,
    compression: str = "",
) -> Manifest:
    """Writes examples, dealt to the shards in turn, then the manifest; without one a folder is not taken for complete.

    Raises:
        DataError: there are no examples, or the folder cannot be written.
    """
    names = [f"records-{i:05d}-of-{shards:05d}.tfrecord" for i in range(shards)]
    counts = [0] * shards
    positives = [0] * shards
    layout = Layout(spec)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / MANIFEST).unlink(missing_ok=True)
        with ExitStack() as stack:
            writers = [stack.enter_context(tf.io.TFRecordWriter(str(directory / name), compression)) for name in names]
            for part in examples:
                for record, label in zip(serialized(part), part.labels.tolist(), strict=True):
                    turn = sum(counts) % shards
                    writers[turn].write(record)
                    counts[turn] += 1
                    positives[turn] += label
        if not sum(counts):
            raise DataError("there are no examples to write: the log is empty")
        manifest = Manifest(
            spec.name,
            spec.hash,
            sum(counts),
            sum(positives),
            layout.row_ids,
            layout.row_floats,
            negative_sampling_rate,
            tuple(
                Shard(name, count, clicks, sha256_of(directory / name))
                for name, count, clicks in zip(names, counts, positives, strict=True)
            ),
            compression,
        )
        write_manifest(directory, manifest)
    except (OSError, tf.errors.OpError) as error:
        raise DataError(f"{directory}: cannot be written: {in_a_line(error)}") from error
    return manifest


def serialized(examples: Examples) -> Iterator[bytes]:
    """Each impression as a serialised `tf.train.Example`."""
    has_floats = examples.floats.shape[1] > 0
    for ids, floats, label in zip(
        examples.ids.tolist(), examples.floats.tolist(), examples.labels.tolist(), strict=True
    ):
        features = {
            "ids": tf.train.Feature(int64_list=tf.train.Int64List(value=ids)),
            "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
        }
        if has_floats:
            features["floats"] = tf.train.Feature(float_list=tf.train.FloatList(value=floats))
        yield tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
