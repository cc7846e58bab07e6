"""Encoded examples on disk: shards of TFRecord with one `tf.train.Example` an impression, and a manifest beside them.

An example holds packed lists, which parse many times faster than a key for each feature: `ids` int64 [row_ids],
`floats` float32 [row_floats] (no key where the spec has none) and `label` int64 [1].
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import orjson
import tensorflow as tf

from model_training.click_log import Examples
from model_training.errors import DataError
from streamer.features import Encoder, FeatureSpec, Layout

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of records, named relative to the manifest."""

    file: str
    examples: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a folder of records holds.

    Attributes:
        spec_hash: `FeatureSpec.hash` of the encoder; records of another hash mean something else.
        positives: how many of the `examples` are clicks.
        row_ids, row_floats: widths of `ids` and `floats`.
        negative_sampling_rate: share of the negatives that was kept, for the correction inside the exported model.
    """

    spec_name: str
    spec_hash: str
    examples: int
    positives: int
    row_ids: int
    row_floats: int
    negative_sampling_rate: float
    shards: tuple[Shard, ...]

    def check(self, spec: FeatureSpec) -> None:
        """Refuses records of another spec.

        Raises:
            DataError: naming both hashes.
        """
        if self.spec_hash != spec.hash:
            raise DataError(
                f"records of spec {self.spec_name!r} ({self.spec_hash}) do not fit spec {spec.name!r} ({spec.hash}):"
                " encode the log again"
            )


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
) -> Manifest:
    """Writes examples, dealt to the shards in turn, then the manifest; without one a folder is not taken for complete.

    Raises:
        DataError: there are no examples, or the folder cannot be written.
    """
    names = [f"records-{i:05d}-of-{shards:05d}.tfrecord" for i in range(shards)]
    counts = [0] * shards
    positives = 0
    layout = Layout(spec)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / MANIFEST).unlink(missing_ok=True)
        with ExitStack() as stack:
            writers = [stack.enter_context(tf.io.TFRecordWriter(str(directory / name))) for name in names]
            for part in examples:
                positives += int(part.labels.sum())
                for record in _records(part):
                    turn = sum(counts) % shards
                    writers[turn].write(record)
                    counts[turn] += 1
        if not sum(counts):
            raise DataError("there are no examples to write: the log is empty")
        manifest = Manifest(
            spec.name,
            spec.hash,
            sum(counts),
            positives,
            layout.row_ids,
            layout.row_floats,
            negative_sampling_rate,
            tuple(Shard(name, count) for name, count in zip(names, counts, strict=True)),
        )
        partial = directory / f"{MANIFEST}.partial"
        partial.write_bytes(orjson.dumps(asdict(manifest), option=orjson.OPT_INDENT_2))
        partial.rename(directory / MANIFEST)
    except (OSError, tf.errors.OpError) as error:
        raise DataError(f"{directory}: cannot be written: {error}") from error
    return manifest


def read_manifest(directory: Path) -> Manifest:
    """Reads a folder's manifest.

    Raises:
        DataError: there is none, or it is not one.
    """
    path = directory / MANIFEST
    try:
        content = orjson.loads(path.read_bytes())
        return Manifest(**{**content, "shards": tuple(Shard(**shard) for shard in content["shards"])})
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except (orjson.JSONDecodeError, TypeError, KeyError) as error:
        raise DataError(f"{path}: not a manifest of records: {error}") from error


def _records(examples: Examples) -> Iterator[bytes]:
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
