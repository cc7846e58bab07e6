"""The result of a distributed run: the trained model."""

from pathlib import Path

import tensorflow as tf

from model_training.checkpoints import Checkpoints, Position, load_model
from model_training.config.training import TrainingConfig
from model_training.distributed.cluster import Schedule
from model_training.distributed.parameter_servers.variables import restore, restored_without_tables
from model_training.distributed.run import Run
from model_training.early_stopping.best_model import BestModel, result_checkpoint
from model_training.errors import DataError, in_a_line
from model_training.export.stored_tables import StoredTables
from model_training.lineage.lineage import Progress
from model_training.models.build import build_model
from model_training.models.model import Model
from streamer.features import FeatureSpec


def progress_of(checkpoints: Path, config: TrainingConfig, schedule: Schedule, examples: int) -> Progress:
    """The work of a finished run, by its last checkpoint.

    Args:
        examples: number of the run's training examples.

    Raises:
        DataError: the checkpoint cannot be read.
    """
    if config.distributed.mode == "mirrored":
        position = Checkpoints(checkpoints, every_seconds=config.distributed.checkpoint_seconds, now=0.0).position
    else:
        last = tf.train.latest_checkpoint(str(checkpoints))
        steps = 0 if last is None else _steps(last, "global_step")
        position = Position(steps, min(steps * schedule.aggregated * config.batch_size, examples * config.epochs))
    best = None if config.early_stopping is None else BestModel(checkpoints).read()
    done = position.examples / max(1, examples)
    return Progress(position.steps, position.examples, done, None if best is None else best.examples)


def trained_model(checkpoints: Path, config: TrainingConfig, spec: FeatureSpec) -> Model:
    """The model of a finished run, with whole tables as a single process would have them.

    With early stopping it is the best model, otherwise the model of the last checkpoint.

    Raises:
        DataError: there is no checkpoint, or it is of another model.
    """
    model, path = build_model(config, spec), result_checkpoint(checkpoints, config)
    load = load_model if config.distributed.mode == "mirrored" else restore
    load(model, path)
    return model


def servable_model(checkpoints: Path, config: TrainingConfig, spec: FeatureSpec) -> tuple[Model, StoredTables]:
    """A finished run's model for `export`: tables of parameter servers stay in the checkpoint.

    Raises:
        DataError: as `trained_model`.
    """
    if config.distributed.mode == "mirrored":
        return trained_model(checkpoints, config, spec), {}
    return restored_without_tables(config, spec, result_checkpoint(checkpoints, config))


def is_finished(checkpoint: str, run: Run) -> bool:
    """Whether a checkpoint is that of a run which has made all its steps, or was stopped early.

    Raises:
        DataError: the checkpoint or the standing of early stopping cannot be read.
    """
    settings = run.config.early_stopping
    standing = None if settings is None else BestModel(run.checkpoints).read()
    if settings is not None and standing is not None and standing.ends(settings):
        return True
    name = "global_step" if run.cluster.ps else "steps/.ATTRIBUTES/VARIABLE_VALUE"
    return _steps(checkpoint, name) >= run.schedule.steps


def _steps(checkpoint: str, name: str) -> int:
    try:
        return int(tf.train.load_variable(checkpoint, name))
    except (RuntimeError, ValueError, LookupError, tf.errors.OpError) as error:
        raise DataError(f"{checkpoint}: is damaged: {in_a_line(error)}") from error
