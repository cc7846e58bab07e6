"""One training run: frozen values that are read from `configs/models/*.yaml`."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from model_training.calibration import CalibrationKind
from model_training.config.model import KINDS, ModelConfig, WideDeepConfig
from model_training.config.reading import Value, read_yaml
from model_training.errors import ConfigError
from streamer.features import FeatureSpec, SpecError

Mode = Literal["sync", "async", "mirrored"]
Compute = Literal["float32", "bfloat16"]
_LEARNING_RATES: Mapping[object, float] = {"adagrad": 0.02, "adam": 0.001}


class FtrlConfig(Value):
    """FTRL-Proximal for the wide part (McMahan et al. 2013).

    Attributes:
        learning_rate: the largest change of a weight in its first step. Without penalties a step changes a weight by
            the rate · g / √(the sum of g² so far), where g is the sum of its gradients over the examples of the step.
        initial_accumulator: first value of the sum of g².
        l1, l2: penalties, in units of one example's loss. L2 draws a weight to the value at which it begins: zero, and
            for the bias the log odds of the click rate. L1 draws it to zero.
    """

    learning_rate: float = Field(default=0.05, gt=0)
    initial_accumulator: float = Field(default=0.1, gt=0)
    l1: float = Field(default=0.0, ge=0)
    l2: float = Field(default=0.0, ge=0)


class ScheduleConfig(Value):
    """How the learning rates of the deep part change during a run.

    Attributes:
        warmup_share: share of the run's steps, its first ones, in which the rates rise linearly.
        decay: how the rates then fall until the last step: not at all, in a line, or as half a cosine.
        final_share: the rates at the last step / the configured ones.
    """

    warmup_share: float = Field(default=0.0, ge=0, lt=1)
    decay: Literal["none", "linear", "cosine"] = "none"
    final_share: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _has_a_decay(self) -> "ScheduleConfig":
        if self.final_share and self.decay == "none":
            raise ValueError("deep.schedule.final_share: needs a decay, linear or cosine")
        return self


class DeepConfig(Value):
    """The training of the deep part, by AdaGrad or Adam.

    Duchi et al. (2011); Kingma and Ba (2015).

    Attributes:
        optimizer: that of the dense variables; tables have AdaGrad in any case.
        learning_rate: that of the dense variables; by default 0.02 for AdaGrad and 0.001 for Adam.
        embedding_learning_rate: that of the embedding tables.
        initial_accumulator: first value of AdaGrad's sums of squared gradients.
        schedule: how both rates change during a run; without this section they are constant.
        dropout: share of the outputs of each dense layer of `hidden_units` that a training step leaves out.
        l2: penalty: this factor times the sum of the squared weights of the dense layers, without biases, is added to
            the mean loss of a batch.
    """

    optimizer: Literal["adagrad", "adam"] = "adagrad"
    learning_rate: float = Field(default_factory=lambda known: _LEARNING_RATES[known.get("optimizer", "adagrad")], gt=0)
    embedding_learning_rate: float = Field(default=0.05, gt=0)
    initial_accumulator: float = Field(default=0.1, gt=0)
    schedule: ScheduleConfig | None = None
    dropout: float = Field(default=0.0, ge=0, lt=1)
    l2: float = Field(default=0.0, ge=0)


class DistributedConfig(Value):
    """How several processes train together. A single process uses `checkpoint_seconds` only.

    Attributes:
        mode: `sync`: with parameter servers, a step applies the gradients of several workers at once.
            `async`: with parameter servers, each worker's gradients are applied when they arrive.
            `mirrored`: without parameter servers, each process holds all variables and all make each step together.
        backup_workers: number of the slowest computing processes that a `sync` step does not wait for.
        table_shards: number of shards that each table is cut into, so that parameter servers can share it.
        checkpoint_seconds: time between checkpoints; the death of a server or of the chief loses at most this time.
        wait_seconds: how long a process waits for the parameter servers to answer, and a worker for the chief to
            initialise the variables.
    """

    mode: Mode = "sync"
    backup_workers: int = Field(default=0, ge=0)
    table_shards: int = Field(default=16, ge=1)
    checkpoint_seconds: float = Field(default=60, gt=0)
    wait_seconds: float = Field(default=600, gt=0)

    @model_validator(mode="after")
    def _backups_are_of_sync(self) -> "DistributedConfig":
        if self.backup_workers and self.mode != "sync":
            waits = "no process" if self.mode == "async" else "all processes"
            raise ValueError(f"distributed.backup_workers: mode {self.mode!r} waits for {waits}, so it has no backups")
        return self


class EarlyStoppingConfig(Value):
    """Ends a run when the model no longer improves on validation examples.

    Attributes:
        metric: the metric of an evaluation: `auc` (higher is better) or `log_loss` (lower is better).
        patience: training ends after this many evaluations in a row without an improvement.
        min_improvement: the smallest change that counts as an improvement, in the metric's unit.
        every_examples: training examples between two evaluations; by default those of one epoch.
        validation_share: share of a log's training lines, its last ones, that become validation examples. Prepared
            data have a validation split instead.
        final_fit: afterwards, a new model learns the training and validation examples, in as many epochs as the best
            model had learnt. This model is the result.
    """

    metric: Literal["auc", "log_loss"] = "auc"
    patience: int = Field(default=3, ge=1)
    min_improvement: float = Field(default=0.0, ge=0)
    every_examples: int | None = Field(default=None, ge=1)
    validation_share: float = Field(default=0.1, gt=0, lt=1)
    final_fit: bool = False


class ExportConfig(Value):
    """How a trained model becomes a version. Training does not depend on it.

    Attributes:
        compute: number format in which the dense layers of `hidden_units` compute. `bfloat16` is faster on a CPU with
            `amx_bf16` and slower on any other. Embeddings, the output layer and the scores stay float32.
        calibration: the map from the model's scores to those of the version, fitted on validation examples. A log's
            validation examples are its last training lines, as for early stopping.
    """

    compute: Compute = "float32"
    calibration: CalibrationKind = "none"


class TrainingConfig(Value):
    """One training run.

    Attributes:
        model: the kind of model, and its own settings.
        spec: the feature spec's file; in a config file the path is relative to that file.
        batch_size: examples per step.
        shuffle_buffer: number of consecutive examples that are shuffled together; 0 keeps the order of the records.
        deterministic: the same records and seed give the same model; this makes reading slower.
        max_lost_share: share of the examples that may be lost with damaged shards; above it training fails.
        clip_norm: the largest norm of all gradients of a step together, of the mean loss of its examples; larger
            gradients are scaled down. None for no limit.
        wide, deep: optimizers of the linear part and of the rest; rejected if the model has no such part.
        early_stopping: without this section a run never ends early.
        distributed: how several processes train together.
        export: how the trained model becomes a version.
    """

    model: ModelConfig = WideDeepConfig()
    spec: Path
    batch_size: int = Field(default=1024, ge=1)
    epochs: int = Field(default=1, ge=1)
    shuffle_buffer: int = Field(default=50_000, ge=0)
    deterministic: bool = True
    max_lost_share: float = Field(default=0.0, ge=0, lt=1)
    seed: int = Field(default=1, ge=0, lt=2**31)
    clip_norm: float | None = Field(default=None, gt=0)
    wide: FtrlConfig = FtrlConfig()
    deep: DeepConfig = DeepConfig()
    early_stopping: EarlyStoppingConfig | None = None
    distributed: DistributedConfig = DistributedConfig()
    export: ExportConfig = ExportConfig()

    @model_validator(mode="after")
    def _no_idle_section(self) -> "TrainingConfig":
        for part in ("wide", "deep"):
            if part in self.model_fields_set and part not in self.model.parts:
                raise ValueError(f"{part}: model {self.model.kind!r} has no such part")
        if self.export.compute != "float32" and "deep" not in self.model.parts:
            raise ValueError(f"export.compute: model {self.model.kind!r} has no dense layers; use float32")
        if self.export.calibration != "none" and self.early_stopping is not None and self.early_stopping.final_fit:
            raise ValueError("export.calibration: early_stopping.final_fit learns the examples of its fit; choose one")
        return self

    @property
    def validation_share(self) -> float:
        """Share of a log's training lines, its last ones, that become validation examples."""
        if self.early_stopping is not None:
            return self.early_stopping.validation_share
        return 0.0 if self.export.calibration == "none" else EarlyStoppingConfig().validation_share

    @classmethod
    def from_yaml(cls, path: Path) -> "TrainingConfig":
        """Reads a config file.

        Raises:
            ConfigError: names the file, the key and the value, and for an unknown key the nearest valid one.
        """
        config = read_yaml(cls, path, {"model": KINDS})
        return config.model_copy(update={"spec": path.parent / config.spec})

    def with_distributed(self, settings: Mapping[str, object]) -> "TrainingConfig":
        """This config with some settings of its section `distributed` replaced.

        Raises:
            ConfigError: the settings contradict each other.
        """
        try:
            replaced = DistributedConfig.model_validate({**self.distributed.model_dump(), **settings})
        except ValidationError as error:
            raise ConfigError("; ".join(_replaced(error))) from None
        return self.model_copy(update={"distributed": replaced})


def load_spec(path: Path) -> FeatureSpec:
    """Reads a feature spec.

    Raises:
        ConfigError: names the file, the feature, the field and the value.
    """
    try:
        return FeatureSpec.from_yaml(path)
    except SpecError as error:
        raise ConfigError("; ".join(str(error).splitlines())) from None


def _replaced(error: ValidationError) -> Iterable[str]:
    for found in error.errors():
        key = ".".join(map(str, found["loc"]))
        yield str(found["ctx"]["error"]) if found["type"] == "value_error" else f"distributed.{key}: {found['msg']}"
