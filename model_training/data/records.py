"""Encoded examples on disk: a manifest, and TFRecord shards of `tf.train.Example`s.

A record of n impressions contains the bytes, little-endian and row by row, of `ids` int32 [n, row_ids], `floats`
float32 [n, row_floats] and `labels` int8 [n], and if they are known those of `users` and `requests` uint64 [n] and
`times` int64 [n], and `weights` float32 [n] of examples that have them. Reading one record per impression takes more
than twice as long.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from model_training.data.examples import Examples
from model_training.data.manifest import MANIFEST, ROWS_PER_RECORD, Manifest, Shard, sha256_of, write_manifest
from model_training.errors import DataError, in_a_line
from streamer.features import Encoder, FeatureSpec, Layout


def encode_table(
    values: Mapping[str, Sequence[object]], labels: Sequence[int], encoder: Encoder, *, chunk: int = 4096
) -> Iterator[Examples]:
    """Encodes data in columns: feature name → one value per label.

    Raises:
        DataError: a column is not a feature of the spec or has the wrong length, or a label is not 0 or 1.
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
    """Writes examples to the shards in turn, then the manifest.

    A folder without a manifest is incomplete.

    Raises:
        DataError: there are no examples, or the folder cannot be written.
    """
    names = [f"records-{i:05d}-of-{shards:05d}.tfrecord" for i in range(shards)]
    counts = [0] * shards
    positives = [0] * shards
    identified, has_weights = True, False
    layout = Layout(spec)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / MANIFEST).unlink(missing_ok=True)
        with ExitStack() as stack:
            writers = [stack.enter_context(tf.io.TFRecordWriter(str(directory / name), compression)) for name in names]
            for part in examples:
                before = sum(counts)
                weighted = part.weights is not None
                if before and weighted is not has_weights:
                    raise DataError("either all examples have weights, or none")
                has_weights = weighted
                identified &= part.identities is not None
                for turn, writer in enumerate(writers):
                    own = part[(turn - before) % shards :: shards]
                    for record in serialized(own):
                        writer.write(record)
                    counts[turn] += len(own)
                    positives[turn] += int(own.labels.sum())
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
            ROWS_PER_RECORD,
            identified,
            has_weights,
        )
        write_manifest(directory, manifest)
    except (OSError, tf.errors.OpError) as error:
        raise DataError(f"{directory}: cannot be written: {in_a_line(error)}") from error
    return manifest


def serialized(examples: Examples) -> Iterator[bytes]:
    """The impressions as serialised `tf.train.Example`s of at most `ROWS_PER_RECORD` rows."""
    for start in range(0, len(examples), ROWS_PER_RECORD):
        part = examples[start : start + ROWS_PER_RECORD]
        content: dict[str, npt.NDArray[Any]] = {"ids": part.ids, "floats": part.floats, "labels": part.labels}
        if (known := part.identities) is not None:
            content |= {"users": known.users, "requests": known.requests, "times": known.times}
        if part.weights is not None:
            content["weights"] = part.weights
        features = {
            name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[np.ascontiguousarray(matrix).tobytes()]))
            for name, matrix in content.items()
        }
        # The order of a map's entries differs by process unless it is fixed, and so would the checksums.
        yield tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)
