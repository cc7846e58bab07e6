"""Training in a single process, from records or from batches."""

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import tensorflow as tf

from model_training.checkpoints import Checkpoints, Position, claimed
from model_training.config.training import TrainingConfig
from model_training.data.input_pipeline import training_batches
from model_training.data.manifest import Manifest
from model_training.early_stopping.stopping import EarlyStopping
from model_training.early_stopping.validation import Validation, read_validation
from model_training.identity import RunIdentity
from model_training.models.build import build_model
from model_training.models.model import Model
from model_training.training.loop import Report, TrainResult, run_steps
from model_training.training.optimizers import WideDeepOptimizer
from model_training.training.prediction import predictor
from model_training.training.schedule import Clock
from model_training.training.source import for_run
from model_training.training.step import batch_signature, dropout_seed, loss_and_gradients
from model_training.training.warm_start import Start
from streamer.features import FeatureSpec, Layout


def train(
    model: Model,
    spec: FeatureSpec,
    data: tf.data.Dataset,
    config: TrainingConfig,
    report: Report | None = None,
    *,
    checkpoints: Checkpoints | None = None,
    validation: Validation | None = None,
    steps: int = 1,
    start: Start | None = None,
    sampling_rate: float = 1.0,
) -> TrainResult:
    """Trains `model` in place on one pass over `data`, batches of `input_pipeline.batches`.

    Args:
        checkpoints: the run's checkpoints, from which it continues; `data` begins at their position.
        validation: the examples of early stopping; needs `checkpoints` and a section `early_stopping`.
        steps: number of steps of the whole run; only a schedule of learning rates needs it.
        start: the model from which a run without a checkpoint begins.
        sampling_rate: share of the non-clicks that `data` kept; only `start` needs it.

    Raises:
        DataError: there are no batches, they cannot be read, or the loss is no longer finite.
        ExportError: a checkpoint cannot be written.
    """
    layout, has_weights = Layout(spec), len(data.element_spec) > 3
    # The checkpoint has it as its position.
    made = tf.Variable(checkpoints.position.steps if checkpoints is not None else 0, trainable=False)
    clock = Clock(lambda: tf.cast(made, tf.float32), steps)
    optimizer = WideDeepOptimizer(model, config.wide, config.deep, clip_norm=config.clip_norm, clock=clock)
    if start is not None and (checkpoints is None or checkpoints.position == Position()):
        start.fill(model, optimizer, config.wide, sampling_rate=sampling_rate)
    stopping = None
    if checkpoints is not None:
        checkpoints.attach(model, optimizer)
        if config.early_stopping is not None and validation is not None:
            stopping = EarlyStopping(
                config.early_stopping,
                validation.every,
                model=model,
                predict=predictor(model, spec),
                checkpoints=checkpoints,
                validation=validation,
            )

    signature = batch_signature(layout, weights=has_weights)

    @tf.function(autograph=False, input_signature=signature)  # type: ignore[untyped-decorator]
    def step(*batch: tf.Tensor) -> tf.Tensor:
        seed = dropout_seed(config.seed, made)
        loss, gradients = loss_and_gradients(model, layout, optimizer.trained, batch, deep=config.deep, seed=seed)
        optimizer.apply(gradients, tf.cast(tf.size(batch[2]), tf.float32))
        made.assign_add(1)
        return loss

    return run_steps(step, data, report, checkpoints=checkpoints, stopping=stopping)


def train_run(
    manifest: Manifest,
    spec: FeatureSpec,
    config: TrainingConfig,
    data: Callable[[int], tf.data.Dataset],
    report: Report | None,
    *,
    folder: Path | None,
    identity: RunIdentity,
    steps: int,
    validation: Validation | None = None,
    start: Start | None = None,
) -> tuple[Model, TrainResult]:
    """Builds the model that `config` names and trains it, or continues with it.

    Args:
        manifest: the records that the run learns.
        data: the run's batches after a number of batches.
        folder: folder for the run's checkpoints; None for a run without.
        steps: steps of the whole run, for a schedule of learning rates.

    Raises:
        ConfigError: the folder holds another run, or the spec does not suit the model.
        DataError, ExportError: see `train`.
    """
    model = build_model(config, spec, log_odds=manifest.log_odds)
    kept, done = None, 0
    with ExitStack() as stack:
        if folder is not None:
            stack.enter_context(claimed(folder, identity))
            kept = Checkpoints(folder, every_seconds=config.distributed.checkpoint_seconds, now=time.monotonic())
            done = -(-kept.position.examples // config.batch_size)
        result = train(
            model,
            spec,
            data(done),
            config,
            report,
            checkpoints=kept,
            validation=validation,
            steps=steps,
            start=start,
            sampling_rate=manifest.negative_sampling_rate,
        )
    return model, result


def train_records(
    directory: Path,
    manifest: Manifest,
    spec: FeatureSpec,
    config: TrainingConfig,
    report: Report | None = None,
    *,
    checkpoints: Path | None = None,
    start: Start | None = None,
) -> tuple[Model, TrainResult]:
    """Builds the model that `config` names and trains it on records.

    Args:
        checkpoints: folder for the run's checkpoints; a run that has some continues from the last one.
        start: the model from which the run begins, instead of random weights.

    Raises:
        ConfigError, DataError: the records do not fit the spec, the spec does not suit the model, or the folder holds
            another run.
        ExportError: a checkpoint cannot be written.
    """
    manifest.check(spec)
    manifest.check_classes("examples")
    validation = read_validation(directory, manifest, spec, config)
    with ExitStack() as stack:
        folder = checkpoints
        if folder is None and validation is not None:
            # Early stopping stores its best model on disk, also in a run that is not kept.
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        return train_run(
            manifest,
            spec,
            config,
            lambda done: training_batches(directory, manifest, config, epochs=config.epochs, skip=done),
            report,
            folder=folder,
            identity=RunIdentity.of(
                config, spec, directory, manifest, **for_run(None if start is None else start.source)
            ),
            steps=-(-manifest.examples * config.epochs // config.batch_size),
            validation=validation,
            start=start,
        )
