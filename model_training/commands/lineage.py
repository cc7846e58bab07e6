"""Records of runs for the commands, and the check that no model has seen its test rows."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from model_training.commands.data import JudgeBy
from model_training.commands.output import console
from model_training.config.training import DistributedConfig, TrainingConfig
from model_training.data.coverage import read_coverage
from model_training.distributed.cluster import Cluster
from model_training.errors import ConfigError, TrainingError
from model_training.lineage.lineage import Data, Processes, Progress, Rows, read_lineage
from model_training.lineage.unseen import can_tell, seen_before

if TYPE_CHECKING:
    from model_training.data.manifest import Manifest
    from model_training.training.loop import TrainResult
    from model_training.training.source import Source

_UNSEEN, _NOT_KNOWN = "unseen", "not known"


def progress_of(result: "TrainResult", data: Data, config: TrainingConfig) -> Progress:
    """The work by which a single process made the model.

    That of a final fit is without the run before it.
    """
    stopping = config.early_stopping
    learnt = data.seen if stopping is not None and stopping.final_fit else data.seen[:1]
    examples = sum(data.splits[name].examples for name in learnt if name in data.splits)
    best = None if result.best is None else result.best.examples
    return Progress(result.total.steps, result.total.examples, result.total.examples / max(1, examples), best)


def data_of(
    log: Path | None,
    directory: Path,
    training: "Manifest",
    config: TrainingConfig,
    *,
    holdout: float = 0.0,
    source: "Source | None" = None,
) -> Data:
    """The data of a run: a log, or the folder of its records.

    Args:
        source: the model of a warm start, whose rows count as seen.

    Raises:
        DataError: the log or the manifest cannot be read.
    """
    from model_training.lineage.data import log_data, records_data  # noqa: PLC0415 - loads TensorFlow

    before = () if source is None else source.seen()
    shares = {name: found.share for name, found in read_coverage(directory).items()}
    if log is not None:
        return replace(log_data(log, training, config, holdout=holdout), before=before, coverage=shares)
    return replace(records_data(directory, training, config), before=before, coverage=shares)


def processes_of(cluster: Cluster, config: DistributedConfig) -> Processes:
    """The processes of a distributed run."""
    kind: Literal["parameter_servers", "mirrored"] = "parameter_servers" if cluster.ps else "mirrored"
    return Processes(kind, config.mode, len(cluster.computing), len(cluster.ps), config.backup_workers)


class Unseen:
    """Checks that no version has seen the rows on which it is judged.

    Args:
        force: only print what is found.

    Attributes:
        found: by role of a version, such as `candidate`: `unseen`, `not known` (a version without lineage, or rows
            without times), or the reason.
    """

    def __init__(
        self, *, log: Path | None, prepared: Path | None, judge_by: JudgeBy, holdout: float, force: bool = False
    ) -> None:
        self.found: dict[str, str] = {}
        self._log, self._prepared, self._judge_by, self._holdout = log, prepared, judge_by, holdout
        self._force = force
        self._rows: Rows | None = None

    def check(self, role: str, path: Path) -> None:
        """Checks a version.

        Raises:
            ConfigError: it has seen the rows, or may have.
            ExportError: its lineage cannot be read; not of `best`, and with `force` of `served`.
            DataError: the data cannot be read.
        """
        try:
            lineage = read_lineage(path)
        except TrainingError as error:
            if role != "best" and not (self._force and role == "served"):
                raise
            console.print(f"{error}; whether it has seen these rows is not known", style="yellow", markup=False)
            self.found[role] = _NOT_KNOWN
            return
        if lineage is None:
            self.found[role] = _NOT_KNOWN
            console.print(f"{path}: has no lineage, so it may have seen these rows", style="yellow", soft_wrap=True)
            return
        rows = self._read()
        reason = seen_before(lineage, rows, of_log=self._log is not None)
        if reason is not None and not self._force:
            raise ConfigError(f"{path}: has seen the rows on which it would be judged: {reason}; use later rows")
        if reason is not None:
            console.print(f"{path}: has seen these rows: {reason}", style="yellow", soft_wrap=True)
        self.found[role] = reason or (_UNSEEN if can_tell(lineage, rows) else _NOT_KNOWN)

    @property
    def holds(self) -> bool:
        """Whether there is no reason against a version."""
        return set(self.found.values()) <= {_UNSEEN, _NOT_KNOWN}

    def _read(self) -> Rows:
        from model_training.lineage.data import rows_of_log, rows_of_prepared  # noqa: PLC0415 - loads TensorFlow

        if self._rows is None and self._prepared is not None:
            self._rows = rows_of_prepared(self._prepared, self._judge_by)
        elif self._rows is None:
            assert self._log is not None
            self._rows = rows_of_log(self._log, holdout=self._holdout)
        return self._rows
