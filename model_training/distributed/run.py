"""One process's part in a distributed run, as it is told."""

from dataclasses import dataclass
from pathlib import Path

from model_training.config.training import TrainingConfig
from model_training.data.manifest import Manifest
from model_training.distributed.cluster import Cluster, Schedule, Task
from model_training.errors import DataError
from streamer.features import FeatureSpec


@dataclass(frozen=True, slots=True)
class Run:
    """One process's part in a run.

    Attributes:
        records, manifest: what is trained on; the folder is the same for all.
        checkpoints: a folder that the chief and all parameter servers reach under this name; without parameter servers,
            all processes.
    """

    cluster: Cluster
    task: Task
    config: TrainingConfig
    spec: FeatureSpec
    records: Path
    manifest: Manifest
    checkpoints: Path

    @property
    def schedule(self) -> Schedule:
        """Steps of the whole run.

        Raises:
            ConfigError: too many backups.
        """
        examples = self.manifest.examples * self.config.epochs
        computing = len(self.cluster.computing)
        return Schedule.of(self.config.distributed, computing, examples, self.config.batch_size)

    @property
    def share(self) -> tuple[int, int]:
        """Which part of the examples is this process's: see `input_pipeline.batches`.

        Raises:
            DataError: there are fewer examples than processes.
        """
        computing = self.cluster.computing
        if self.manifest.examples < len(computing):
            raise DataError(f"{self.manifest.examples} examples are too few for {len(computing)} processes")
        return computing.index(self.task), len(computing)
