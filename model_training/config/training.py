"""What a training run is made of: frozen values read from `configs/models/*.yaml`."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from model_training.config.model import KINDS, ModelConfig, WideDeepConfig
from model_training.config.reading import Value, read_yaml
from model_training.errors import ConfigError
from streamer.features import FeatureSpec, SpecError

Mode = Literal["sync", "async", "mirrored"]


class FtrlConfig(Value):
    """FTRL-Proximal of the wide part (McMahan et al. 2013). Penalties are in units of one example's loss."""

    learning_rate: float = Field(default=0.05, gt=0)
    initial_accumulator: float = Field(default=0.1, gt=0)
    l1: float = Field(default=0.0, ge=0)
    l2: float = Field(default=0.0, ge=0)


class AdaGradConfig(Value):
    """AdaGrad (Duchi et al. 2011) of the deep part; the embedding table may learn at a rate of its own."""

    learning_rate: float = Field(default=0.02, gt=0)
    embedding_learning_rate: float = Field(default=0.05, gt=0)
    initial_accumulator: float = Field(default=0.1, gt=0)


class DistributedConfig(Value):
    """How several processes train together; a single one has no use for it, but for `checkpoint_seconds`.

    Attributes:
        mode: with parameter servers a step applies the gradients of several workers at once (`sync`), or each one's as
            it comes (`async`); without them (`mirrored`) each process holds all variables, and a step is that of all.
        backup_workers: how many of those that compute a `sync` step does not wait for: the slowest ones.
        table_shards: how many pieces tables are cut into, so that they can be spread over parameter servers.
        checkpoint_seconds: time between checkpoints, which is what the loss of a server or the chief may cost.
        wait_seconds: how long processes wait for parameter servers that do not answer, and a worker for the chief to
            have made the variables.
    """

    mode: Mode = "sync"
    backup_workers: int = Field(default=0, ge=0)
    table_shards: int = Field(default=16, ge=1)
    checkpoint_seconds: float = Field(default=60, gt=0)
    wait_seconds: float = Field(default=600, gt=0)

    @model_validator(mode="after")
    def _backups_are_of_sync(self) -> "DistributedConfig":
        if self.backup_workers and self.mode != "sync":
            waits = "nobody" if self.mode == "async" else "all"
            raise ValueError(f"distributed.backup_workers: mode {self.mode!r} waits for {waits}, so it has no backups")
        return self


class EarlyStoppingConfig(Value):
    """When a run ends before its last step: it no longer gets better on examples that it does not learn from.

    Attributes:
        metric: which the model is judged by: `auc` (higher is better) or `log_loss` (lower is).
        patience: evaluations in a row that may bring no improvement; after the last of them training ends.
        min_improvement: what counts as one, in the metric's own unit.
        every_examples: how many examples are learnt from between evaluations; by default those of an epoch.
        validation_share: how much of a log is kept for it, from the end of what would be trained on; prepared data
            have a split for it.
    """

    metric: Literal["auc", "log_loss"] = "auc"
    patience: int = Field(default=3, ge=1)
    min_improvement: float = Field(default=0.0, ge=0)
    every_examples: int | None = Field(default=None, ge=1)
    validation_share: float = Field(default=0.1, gt=0, lt=1)


class TrainingConfig(Value):
    """One training run.

    Attributes:
        model: which one, and its own settings.
        spec: the feature spec's file; in a config file it is relative to that file.
        batch_size: examples a step.
        shuffle_buffer: about so many examples in a row are mixed; 0 keeps the order of the records.
        deterministic: the same records and seed give the same model; costs some input speed.
        max_lost_share: share of the examples that may be lost with damaged shards; above it nothing is trained.
        wide, deep: how the model's linear part and all the rest of it learn; refused where it has no such part.
        early_stopping: when it ends early, with the best model that it has seen; never, if there is no such section.
        distributed: how several processes train it together.
    """

    model: ModelConfig = WideDeepConfig()
    spec: Path
    batch_size: int = Field(default=1024, ge=1)
    epochs: int = Field(default=1, ge=1)
    shuffle_buffer: int = Field(default=50_000, ge=0)
    deterministic: bool = True
    max_lost_share: float = Field(default=0.0, ge=0, lt=1)
    seed: int = 1
    wide: FtrlConfig = FtrlConfig()
    deep: AdaGradConfig = AdaGradConfig()
    early_stopping: EarlyStoppingConfig | None = None
    distributed: DistributedConfig = DistributedConfig()

    @model_validator(mode="after")
    def _no_idle_section(self) -> "TrainingConfig":
        for part in ("wide", "deep"):
            if part in self.model_fields_set and part not in self.model.parts:
                raise ValueError(f"{part}: model {self.model.kind!r} has no such part")
        return self

    @classmethod
    def from_yaml(cls, path: Path) -> "TrainingConfig":
        """Reads a config file.

        Raises:
            ConfigError: naming the file, the key and the value, and for an unknown key the nearest right one.
        """
        config = read_yaml(cls, path, {"model": KINDS})
        return config.model_copy(update={"spec": path.parent / config.spec})

    def with_distributed(self, settings: Mapping[str, object]) -> "TrainingConfig":
        """This config with some settings of its section `distributed` replaced.

        Raises:
            ConfigError: they do not go together.
        """
        try:
            replaced = DistributedConfig.model_validate({**self.distributed.model_dump(), **settings})
        except ValidationError as error:
            raise ConfigError("; ".join(_replaced(error))) from None
        return self.model_copy(update={"distributed": replaced})


def load_spec(path: Path) -> FeatureSpec:
    """Reads a feature spec.

    Raises:
        ConfigError: naming the file, the feature, the field and the value.
    """
    try:
        return FeatureSpec.from_yaml(path)
    except SpecError as error:
        raise ConfigError("; ".join(str(error).splitlines())) from None


def _replaced(error: ValidationError) -> Iterable[str]:
    for found in error.errors():
        key = ".".join(map(str, found["loc"]))
        yield str(found["ctx"]["error"]) if found["type"] == "value_error" else f"distributed.{key}: {found['msg']}"
