"""The part of one process in a distributed run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from model_training.config.training import TrainingConfig
from model_training.data.manifest import Manifest
from model_training.distributed.cluster import Cluster, Schedule, Task
from model_training.errors import DataError
from model_training.identity import Processes, RunIdentity
from model_training.training.source import Source, for_run
from model_training.training.warm_start import Start
from streamer.features import FeatureSpec


@dataclass(frozen=True, slots=True)
class Run:
    """The part of one process in a run.

    Attributes:
        records, manifest: the training records; the folder is the same for all processes. The chief's manifest has
            the intact shards only; the others get it from the chief.
        checkpoints: a folder that the chief and all parameter servers reach under this path; without parameter servers,
            a folder that all processes reach.
        start: the model from which the run begins.
        open_start: opens it; not before TensorFlow's runtime has joined the cluster.
    """

    cluster: Cluster
    task: Task
    config: TrainingConfig
    spec: FeatureSpec
    records: Path
    manifest: Manifest
    checkpoints: Path
    start: Source | None = None
    open_start: Callable[[], Start] | None = None

    @property
    def schedule(self) -> Schedule:
        """The schedule of the whole run.

        Raises:
            ConfigError: too many backup workers.
        """
        examples = self.manifest.examples * self.config.epochs
        computing = len(self.cluster.computing)
        return Schedule.of(self.config.distributed, computing, examples, self.config.batch_size)

    @property
    def identity(self) -> RunIdentity:
        """The identity of the whole run.

        Raises:
            DataError: there are no validation examples for early stopping.
        """
        distributed, is_sharded = self.config.distributed, bool(self.cluster.ps)
        processes = Processes(
            distributed.mode,
            parameter_servers=len(self.cluster.ps),
            computing=len(self.cluster.computing),
            backup_workers=distributed.backup_workers,
            table_shards=distributed.table_shards if is_sharded else None,
        )
        return RunIdentity.of(
            self.config, self.spec, self.records, self.manifest, processes=processes, **for_run(self.start)
        )

    @property
    def share(self) -> tuple[int, int]:
        """This process's part of the examples: see `data.input_pipeline.batches`.

        Raises:
            DataError: there are fewer examples than processes.
        """
        computing = self.cluster.computing
        if self.manifest.examples < len(computing):
            raise DataError(f"{self.manifest.examples} examples are too few for {len(computing)} processes")
        return computing.index(self.task), len(computing)
