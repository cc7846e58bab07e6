"""The manifest of a folder of records: counts, checksums, and the spec of the encoding."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from math import log
from pathlib import Path
from typing import Any

import orjson

from model_training.errors import DataError
from streamer.features import FeatureSpec

MANIFEST = "manifest.json"
ROWS_PER_RECORD = 64


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of records: path relative to the manifest, and checksum of its bytes.

    Attributes:
        rows: checksum of the rows' keys, times and labels, in order; the same for every spec. Empty if the rows have
            no keys, or an older version wrote them.
    """

    file: str
    examples: int
    positives: int
    sha256: str
    rows: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of a set of shards.

    Attributes:
        spec_hash: `FeatureSpec.hash` of the encoder; the same ids mean other values under another hash.
        positives: number of clicks among the `examples`.
        row_ids, row_floats: widths of `ids` and `floats`.
        negative_sampling_rate: share of the non-clicks that was kept; the exported model corrects for it.
        compression: compression of the shards, as `tf.data.TFRecordDataset` names it; empty for none.
        rows_per_record: the largest number of examples in a record.
        has_identities: whether the records have users, requests and times; an older version did not write them.
        has_weights: whether the records have weights.
    """

    spec_name: str
    spec_hash: str
    examples: int
    positives: int
    row_ids: int
    row_floats: int
    negative_sampling_rate: float
    shards: tuple[Shard, ...]
    compression: str
    rows_per_record: int
    has_identities: bool = False
    has_weights: bool = False

    @property
    def log_odds(self) -> float:
        """Log odds of a click in these records, after sampling: see `log_odds`."""
        return log_odds(self.positives, self.examples)

    def check(self, spec: FeatureSpec) -> None:
        """Rejects records of another spec.

        Raises:
            DataError: names both hashes.
        """
        if self.spec_hash != spec.hash:
            raise DataError(
                f"records of spec {self.spec_name!r} ({self.spec_hash}) do not fit spec {spec.name!r} ({spec.hash}):"
                " encode the log again"
            )

    def check_classes(self, what: str) -> None:
        """Rejects records of one class, from which a model cannot learn.

        Args:
            what: name of the examples in the message.

        Raises:
            DataError: clicks or non-clicks are missing.
        """
        if self.positives in (0, self.examples):
            raise DataError(f"{self.positives} clicks among {self.examples} {what}: both classes are needed")

    def without(self, shards: frozenset[str]) -> "Manifest":
        """A copy without the shards of these names."""
        kept = tuple(shard for shard in self.shards if shard.file not in shards)
        return replace(
            self, shards=kept, examples=sum(s.examples for s in kept), positives=sum(s.positives for s in kept)
        )

    @classmethod
    def from_json(cls, content: Mapping[str, Any], where: Path) -> "Manifest":
        """Converts the content of a manifest's file.

        Raises:
            KeyError, TypeError: the content is not a manifest.
            DataError: the records are of an older format.
        """
        if "spec_hash" in content and "rows_per_record" not in content:
            raise DataError(f"{where}: records of one example each, which an older version wrote: write them again")
        return cls(**{**content, "shards": tuple(Shard(**shard) for shard in content["shards"])})


def log_odds(positives: int, examples: int) -> float:
    """Log odds of a click, ln((c + 1/2) / (n - c + 1/2)) for c clicks in n examples.

    It is finite also without clicks, and with clicks only. Haldane: The estimation and significance of the logarithm of
    a ratio of frequencies (1956).
    """
    return log((positives + 0.5) / (examples - positives + 0.5))


def sha256_of(path: Path) -> str:
    """The checksum of a file, as hexadecimal digits.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(directory: Path, manifest: object) -> None:
    """Writes a manifest, which is a dataclass; the file appears whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    partial = directory / f"{MANIFEST}.partial"
    partial.write_bytes(orjson.dumps(asdict(manifest), option=orjson.OPT_INDENT_2))  # type: ignore[call-overload]
    partial.rename(directory / MANIFEST)


def load_manifest(directory: Path) -> dict[str, Any]:
    """The content of a folder's manifest.

    Raises:
        DataError: there is no manifest, or it is not a JSON object.
    """
    path = directory / MANIFEST
    try:
        content = orjson.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise DataError(f"{path}: not a manifest of records: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: not a manifest of records: expected an object")
    return content


def read_manifest(directory: Path) -> Manifest:
    """Reads the manifest of a folder of records.

    Raises:
        DataError: there is no manifest, or it is not one of records.
    """
    content = load_manifest(directory)
    try:
        return Manifest.from_json(content, directory / MANIFEST)
    except (TypeError, KeyError) as error:
        raise DataError(f"{directory / MANIFEST}: not a manifest of records: {error}") from error


@contextmanager
def unchanged(directory: Path) -> Iterator[None]:
    """Checks after the block that a folder of records was not replaced meanwhile.

    Files are opened by name in each epoch, so a run would learn from two sets of records.

    Raises:
        DataError: its manifest is another one.
    """
    before = load_manifest(directory)
    yield
    if load_manifest(directory) != before:
        raise DataError(
            f"{directory}: was replaced during the training: train again, with another folder of checkpoints"
        )


@dataclass(frozen=True, slots=True)
class Damage:
    """Shards that are missing or fail their checksum, and the number of lost examples."""

    shards: tuple[str, ...]
    examples: int


def without_damaged(directory: Path, manifest: Manifest, *, max_lost_share: float) -> tuple[Manifest, Damage]:
    """The manifest of the intact shards, and the damage.

    A damaged shard is dropped as a whole, because the rest of a compressed file cannot be read after a damaged byte.
    The check runs before training starts, so that training does not fail at its end.

    Raises:
        DataError: more than `max_lost_share` of the examples are lost; names the shards.
    """
    damaged = tuple(shard for shard in manifest.shards if not _is_intact(directory / shard.file, shard))
    lost = Damage(tuple(shard.file for shard in damaged), sum(shard.examples for shard in damaged))
    if lost.examples > max_lost_share * manifest.examples:
        raise DataError(
            f"{directory}: {lost.examples:,} of {manifest.examples:,} examples are in damaged or missing shards,"
            f" more than the share of {max_lost_share:g} that max_lost_share allows: {', '.join(lost.shards)}"
        )
    return manifest.without(frozenset(lost.shards)), lost


def _is_intact(path: Path, shard: Shard) -> bool:
    try:
        return sha256_of(path) == shard.sha256
    except FileNotFoundError:
        return False
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
