"""Mode `mirrored`: synchronous data parallelism.

Each process holds all variables, and a step uses the batches of all processes. TensorFlow's
`MultiWorkerMirroredStrategy` sums gradients by collective operations. Of tables it sums only the rows that the batches
name. Each process then makes the same update of its own copy.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import tensorflow as tf

from model_training.checkpoints import Checkpoints, Position
from model_training.data.input_pipeline import training_batches
from model_training.data.prepared import read_training_records
from model_training.distributed.run import Run
from model_training.early_stopping.stopping import EarlyStopping
from model_training.early_stopping.validation import read_validation
from model_training.errors import ConfigError, PeerError, TrainingError, in_a_line
from model_training.models.build import build_model
from model_training.models.model import Model
from model_training.training.loop import Report, Step, TrainResult, run_steps
from model_training.training.optimizers import WideDeepOptimizer, sum_by_row
from model_training.training.prediction import predictor
from model_training.training.schedule import Clock
from model_training.training.step import batch_signature, dropout_seed, loss_and_gradients
from streamer.features import Layout

_REPORT_SECONDS = 2.0


def compute(run: Run, report: Report | None = None) -> TrainResult:
    """Makes the run's steps together with all other processes.

    The chief writes checkpoints and the best model. The run continues from the last checkpoint in `run.checkpoints`, if
    there is one. All processes return after the chief has written the last checkpoint.

    Raises:
        ConfigError: the spec does not suit the model, or this process sees several accelerators.
        DataError: the loss is no longer finite, or the records cannot be read or are fewer than the processes.
        ExportError: a checkpoint cannot be written.
        PeerError: another process has ended.
        TrainingError: this process cannot listen on its address.
    """
    # This must come first: TensorFlow's runtime joins the cluster when it starts.
    strategy = _strategy(run)
    try:
        return _train(run, strategy, report)
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        raise PeerError(f"{run.task}: another process of the run has ended: {in_a_line(error)[:200]}") from error


def _strategy(run: Run) -> tf.distribute.MultiWorkerMirroredStrategy:
    task, computing = run.task, len(run.cluster.computing)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(run.cluster.jobs), task_type=task.role, task_id=task.index, rpc_layer="grpc"
    )
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except tf.errors.OpError as error:
        address = run.cluster.jobs[task.role][task.index]
        raise TrainingError(f"{task}: cannot join the cluster at {address}: {in_a_line(error)}") from error
    if strategy.num_replicas_in_sync != computing:
        raise ConfigError(f"{task}: sees several accelerators; make one visible to each process (CUDA_VISIBLE_DEVICES)")
    return strategy


def _train(run: Run, strategy: tf.distribute.MultiWorkerMirroredStrategy, report: Report | None) -> TrainResult:
    config, is_chief = run.config, run.task.role == "chief"
    replicas = strategy.num_replicas_in_sync
    run = _with_intact_shards(run, strategy)
    checkpoints = Checkpoints(
        run.checkpoints,
        every_seconds=config.distributed.checkpoint_seconds,
        now=time.monotonic(),
        writes=is_chief,
    )
    # Not a mirrored variable: each process counts the common steps.
    made = tf.Variable(checkpoints.position.steps, trainable=False)
    clock = Clock(lambda: tf.cast(made, tf.float32), run.schedule.steps)
    with strategy.scope():
        model = build_model(config, run.spec, log_odds=run.manifest.log_odds)
        optimizer = WideDeepOptimizer(model, config.wide, config.deep, clip_norm=config.clip_norm, clock=clock)
    if run.open_start is not None and checkpoints.position == Position():
        rate = run.manifest.negative_sampling_rate
        run.open_start().fill(model, optimizer, config.wide, sampling_rate=rate)
    checkpoints.attach(model, optimizer)
    agree = _agreement(strategy)
    stopping = None
    if (settings := config.early_stopping) is not None:
        stopping = EarlyStopping(
            settings,
            settings.every_examples or run.manifest.examples,
            model=model,
            predict=predictor(model, run.spec),
            checkpoints=checkpoints,
            # The chief evaluates for all; the others wait for its decision.
            validation=read_validation(run.records, run.manifest, run.spec, config) if is_chief else None,
            agree=agree,
        )
    done = -(-checkpoints.position.examples // (config.batch_size * replicas))
    data = training_batches(run.records, run.manifest, config, epochs=None, share=run.share, skip=done)
    data = data.take(max(0, run.schedule.steps - done))
    step = _step(run, strategy, model, optimizer, made)
    result = run_steps(
        step,
        data,
        report,
        checkpoints=checkpoints,
        stopping=stopping,
        replicas=replicas,
        report_seconds=_REPORT_SECONDS,
    )
    # All wait for the last checkpoint: the others would take a process that ends for a failure.
    agree(False)
    return result


def _step(
    run: Run, strategy: tf.distribute.Strategy, model: Model, optimizer: WideDeepOptimizer, made: tf.Variable
) -> Step:
    """The step of a single process on the batches of all processes, which have equal size."""
    replicas, layout, config = strategy.num_replicas_in_sync, Layout(run.spec), run.config

    def replica(*batch: tf.Tensor) -> tf.Tensor:
        seed = dropout_seed(config.seed, made, run.share)
        loss, gradients = loss_and_gradients(model, layout, optimizer.trained, batch, deep=config.deep, seed=seed)
        mean, *means = _summed([loss / replicas, *(_over(gradient, replicas) for gradient in gradients)])
        optimizer.apply(means, tf.cast(tf.size(batch[2]) * replicas, tf.float32))
        return mean

    signature = batch_signature(layout, weights=run.manifest.has_weights)

    @tf.function(autograph=False, input_signature=signature)  # type: ignore[untyped-decorator]
    def step(*batch: tf.Tensor) -> tf.Tensor:
        loss = strategy.run(replica, args=batch)
        made.assign_add(1)
        return loss

    return step  # type: ignore[no-any-return]


def _over(gradient: tf.Tensor | tf.IndexedSlices, replicas: int) -> tf.Tensor | tf.IndexedSlices:
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient / replicas
    # Each row is sent once.
    rows, sums = sum_by_row(gradient)
    return tf.IndexedSlices(sums / replicas, rows, gradient.dense_shape)


def _summed(values: Sequence[tf.Tensor | tf.IndexedSlices]) -> list[tf.Tensor | tf.IndexedSlices]:
    """Sums over all processes; a sparse value becomes the concatenation of all processes' rows."""
    context = tf.distribute.get_replica_context()
    # Collective operations reject variables without elements.
    sent = [i for i, value in enumerate(values) if value.shape.num_elements() != 0]
    found = dict(zip(sent, context.all_reduce(tf.distribute.ReduceOp.SUM, [values[i] for i in sent]), strict=True))
    return [found.get(i, value) for i, value in enumerate(values)]


def _with_intact_shards(run: Run, strategy: tf.distribute.Strategy) -> Run:
    """The run with the intact shards, which the chief finds for all processes."""
    whole, is_chief = read_training_records(run.records), run.task.role == "chief"
    own = {shard.file for shard in run.manifest.shards} if is_chief else set[str]()
    kept = _counter(strategy, len(whole.shards))(tf.constant([float(shard.file in own) for shard in whole.shards]))
    lost = [shard.file for shard, is_kept in zip(whole.shards, kept.numpy(), strict=True) if not is_kept]
    return replace(run, manifest=whole.without(frozenset(lost)))


def _agreement(strategy: tf.distribute.Strategy) -> Callable[[bool], bool]:
    """A function that returns whether any process passed True.

    All processes must call it at the same point.
    """
    count = _counter(strategy, 1)
    return lambda flag: float(count(tf.constant([float(flag)]))[0]) > 0


def _counter(strategy: tf.distribute.Strategy, size: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function that sums float32 [size] over all processes; all must call it together."""

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([size], tf.float32)])  # type: ignore[untyped-decorator]
    def count(flags: tf.Tensor) -> tf.Tensor:
        return strategy.run(lambda own: _summed([tf.identity(own)])[0], args=(flags,))

    return count  # type: ignore[no-any-return]
