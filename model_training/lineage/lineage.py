"""The record of how a version was made, and its file inside the version's folder."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import TypeAdapter

from model_training.config.stored import Time, as_stored, read_object
from model_training.errors import ExportError

FILE = "assets.extra/lineage.json"
"""TensorFlow Serving reads only the warm-up requests of `assets.extra`."""
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Rows:
    """One split of the data.

    Attributes:
        sha256: of the lines of a log; of encoded examples, the checksum in the identity of a run.
        examples, clicks: impressions, and those with a click.
        first_ms, last_ms: times of the first and the last row, in ms since 1970; None if they are not known.
    """

    sha256: str
    examples: int
    clicks: int
    first_ms: int | None = None
    last_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Data:
    """The data of a run.

    Attributes:
        kind: a click log, a folder that `prepare` made, or a folder of records alone.
        manifest_sha256: checksum of the manifest's file; None for a log.
        seen: the splits from which the model learnt, or by which it was chosen or calibrated.
        splits: the splits by name, without lost shards.
        negative_sampling_rate: share of the non-clicks in the split `train`.
        holdout: of a log, the share of its last lines that are the split `test`.
        lost_shards: damaged or missing shards of the split `train`.
        before: the rows that the models before a warm start had seen; None if they are not known.
        coverage: by feature, the share of the rows or requests in which it had a value; empty if it is not known.
    """

    kind: Literal["log", "prepared", "records"]
    path: str
    manifest_sha256: str | None
    seen: tuple[str, ...]
    splits: Mapping[str, Rows]
    negative_sampling_rate: float = 1.0
    holdout: float | None = None
    lost_shards: tuple[str, ...] = ()
    before: tuple[Rows, ...] | None = ()
    coverage: Mapping[str, float] = field(default_factory=dict)

    @property
    def all_seen(self) -> tuple[Rows, ...] | None:
        """The rows that the model and those before it have seen; None if they are not known."""
        own = tuple(self.splits[name] for name in self.seen if name in self.splits)
        return None if self.before is None else (*own, *self.before)


@dataclass(frozen=True, slots=True)
class Progress:
    """The work of a run, over all its processes and restarts.

    Attributes:
        epochs: passes over the examples, also a part of one.
        best_examples: with early stopping, the number of examples after which the exported model was the best one.
    """

    steps: int
    examples: int
    epochs: float
    best_examples: int | None = None


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of a run; `computing` includes the chief and the `backups`."""

    kind: Literal["single", "mirrored", "parameter_servers"] = "single"
    mode: str | None = None
    computing: int = 1
    servers: int = 0
    backups: int = 0


@dataclass(frozen=True, slots=True)
class BeginsWith:
    """The model of a warm start, and the checksum of the file that lists those of its variables."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Code:
    """Version of the package; from a checkout its commit, and whether the code differs from it."""

    version: str
    commit: str | None = None
    dirty: bool | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """What decides the bits of a model beside code, config and data.

    Attributes:
        libraries: versions by package name; those that are not installed are absent.
        cpu_features: instruction sets by which TensorFlow chooses its kernels.
        cores: processors that the process may use.
        accelerators: visible devices that are no CPU.
        environment: variables that change TensorFlow's kernels or threads, if they are set.
    """

    python: str
    libraries: Mapping[str, str]
    architecture: str
    cpu: str
    cpu_features: tuple[str, ...]
    cores: int
    accelerators: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lineage:
    """How a version was made.

    Attributes:
        config: the whole training config, as JSON values; `TrainingConfig` reads it.
        spec_name, spec_hash: of the feature spec, which is inside the model.
        data, progress, processes: None for a model that was not trained.
        started_at, ended_at: ISO 8601, in UTC.
        begins_with: None for random weights.
    """

    config: Mapping[str, Any]
    seed: int
    spec_name: str
    spec_hash: str
    data: Data | None
    progress: Progress | None
    processes: Processes | None
    code: Code
    machine: Machine
    started_at: Time
    ended_at: Time
    begins_with: BeginsWith | None = None
    format: int = _FORMAT

    def content(self) -> dict[str, Any]:
        """The record as JSON values, with the click rate of each split."""
        content = asdict(self)
        for rows in content["data"]["splits"].values() if self.data is not None else ():
            rows["click_rate"] = rows["clicks"] / max(1, rows["examples"])
        return content


_ADAPTER = TypeAdapter(Lineage)


def write_lineage(version: Path, lineage: Lineage) -> None:
    """Writes the record into a version's folder.

    Raises:
        OSError: the file cannot be written.
    """
    (version / FILE).parent.mkdir(parents=True, exist_ok=True)
    (version / FILE).write_bytes(
        orjson.dumps(lineage.content(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    )


def read_lineage(version: Path) -> Lineage | None:
    """The record in a version's folder; None in a version of an older program.

    Raises:
        ExportError: the record cannot be read, or a newer program wrote it; names the file and the field.
    """
    path = version / FILE
    content = read_object(path)
    if content is None:
        return None
    known = content.get("format")
    if isinstance(known, int) and known > _FORMAT:
        raise ExportError(f"{path}: a newer version of this program wrote it: use that one")
    return as_stored(_ADAPTER, content, path)
