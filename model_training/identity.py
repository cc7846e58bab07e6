"""The identity of a run: all that decides its course, as JSON.

A folder of checkpoints belongs to one run and records its identity. Settings are compared unless they are known to be
harmless, so a new setting is compared from the day that it is created.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from model_training.config.training import Mode, TrainingConfig
from model_training.data.manifest import MANIFEST, Manifest, without_damaged
from model_training.data.prepared import is_prepared, read_prepared, validation_records
from model_training.errors import ConfigError, in_a_line
from streamer.features import FeatureSpec

IDENTITY = "run.json"
_FORMAT = 2
_HARMLESS = {
    "spec": True,  # a path; the spec's hash is compared
    "max_lost_share": True,  # the remaining records are compared
    "distributed": True,  # `Processes` has its settings that matter
    "early_stopping": {"final_fit"},  # the final fit is a run of its own
    "export": True,
}
"""Keys of the config that do not change the course of training."""
_NOT_COMPARED = ("features", "negative_sampling_rate", "start.path", "seen")
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of a run; `table_shards`: shards per table, None for whole tables."""

    mode: Mode | Literal["single"] = "single"
    parameter_servers: int = 0
    computing: int = 1
    backup_workers: int = 0
    table_shards: int | None = None


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """The identity of a run.

    Attributes:
        content: JSON values: `spec` (its hash), `features` (the whole spec), `data` (the checksums of the records by
            their use, `train` and `validation`), `negative_sampling_rate` (of the training records), `config`,
            `processes`, `start` (the model from which the run begins) and `final_fit` (the result of early stopping
            that it repeats); the last two may be null. `seen` has the rows that the model and those before its warm
            start have seen, null if they are not known.
    """

    content: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        config: TrainingConfig,
        spec: FeatureSpec,
        directory: Path,
        manifest: Manifest,
        *,
        processes: Processes | None = None,
        start: Mapping[str, str] | None = None,
        seen_before: Sequence[Mapping[str, Any]] | None = (),
        found: Mapping[str, Any] | None = None,
    ) -> "RunIdentity":
        """The identity of a run on a folder of training records.

        Args:
            manifest: the manifest of the folder's training records.
            processes: by default a single process.
            start: path and checksum of the model from which the run begins; by default it begins with random weights.
            seen_before: the rows that the models before had seen, as in `seen`; None if they are not known.
            found: the result of early stopping that a final fit repeats on all its examples.

        Raises:
            DataError: `config` has early stopping, and its examples are missing or damaged.
        """
        data = {"train": manifest}
        if config.early_stopping is not None:
            folder, later = validation_records(directory)
            data["validation"], _ = without_damaged(folder, later, max_lost_share=config.max_lost_share)
        content = {
            "format": _FORMAT,
            "spec": spec.hash,
            "features": json.loads(spec.to_json()),
            "data": {use: checksum(manifest) for use, manifest in data.items()},
            "negative_sampling_rate": manifest.negative_sampling_rate,
            "config": config.model_dump(mode="json", exclude=_HARMLESS),  # type: ignore[arg-type]
            "processes": asdict(processes or Processes()),
            "start": None if start is None else dict(start),
            "final_fit": None if found is None else dict(found),
            "seen": None if seen_before is None else [*_seen(directory, data), *map(dict, seen_before)],
        }
        return cls(json.loads(json.dumps(content)))

    def check(self, found: Mapping[str, Any], directory: Path) -> None:
        """Compares this identity with the one that a folder records.

        Raises:
            ConfigError: they differ; names the fields with both values.
        """
        have, want = (flat(content, without=_NOT_COMPARED) for content in (found, self.content))
        differing = [key for key in {**want, **have} if have.get(key) != want.get(key)]
        differences = [f"{key} {_shown(have, key)} instead of {_shown(want, key)}" for key in differing]
        if len(differences) > _SHOWN:
            differences[_SHOWN:] = [f"{len(differences) - _SHOWN} more"]
        if differences:
            raise ConfigError(
                f"{directory}: holds another run: {', '.join(differences)}; use another folder,"
                f" with `--warm-start {directory}` to begin with this run's model"
            )


def checksum(manifest: Manifest) -> dict[str, Any]:
    """The number of examples of some records, and a checksum of their content.

    It is the checksum of the spec's hash, the sampling rate, and the shards' own checksums.
    """
    shards = [[shard.file, shard.sha256] for shard in manifest.shards]
    text = json.dumps([manifest.spec_hash, manifest.negative_sampling_rate, manifest.compression, shards]).encode()
    return {"examples": manifest.examples, "sha256": hashlib.sha256(text).hexdigest()[:16]}


def _seen(directory: Path, data: Mapping[str, Manifest]) -> list[dict[str, Any]]:
    """Checksums, counts and times of a run's records; times are known of prepared data only."""
    splits: Mapping[Any, Any] = (
        read_prepared(directory).splits if (directory / MANIFEST).exists() and is_prepared(directory) else {}
    )
    return [
        checksum(manifest)
        | {"clicks": manifest.positives}
        | ({"first_ms": splits[use].first_ms, "last_ms": splits[use].last_ms} if use in splits else {})
        for use, manifest in data.items()
    ]


def read_identity(directory: Path) -> dict[str, Any] | None:
    """What a folder of checkpoints records of its run; None if it records nothing.

    Raises:
        ConfigError: the record cannot be read, or an older version wrote it.
    """
    path = directory / IDENTITY
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {in_a_line(error)}") from error
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise ConfigError(
            f"{directory}: holds checkpoints of another version of this program, which recorded neither data nor"
            " schedule: use another folder"
        )
    return found


def write_identity(directory: Path, identity: RunIdentity) -> None:
    """Writes the record of a folder's run; it appears whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    partial = directory / f"{IDENTITY}.partial"
    partial.write_bytes(orjson.dumps(identity.content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    partial.rename(directory / IDENTITY)


def flat(content: Mapping[str, Any], prefix: str = "", *, without: Collection[str] = ()) -> dict[str, Any]:
    """The values of nested mappings by dotted key, without those of the keys `without`."""
    values: dict[str, Any] = {}
    for key, value in content.items():
        name = prefix + key
        if name in without:
            continue
        values |= flat(value, f"{name}.", without=without) if isinstance(value, Mapping) else {name: value}
    return values


def _shown(values: Mapping[str, Any], key: str) -> str:
    return "none" if values.get(key) is None else json.dumps(values[key])
