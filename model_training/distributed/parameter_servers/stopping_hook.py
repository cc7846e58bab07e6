"""Early stopping with parameter servers.

The chief evaluates the model between two of its steps, for all processes. The variable `stop_at` on a parameter server
is the step after which all processes end; 0 until the chief sets it.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from model_training.checkpoints import not_written
from model_training.config.training import EarlyStoppingConfig
from model_training.distributed.run import Run
from model_training.early_stopping.best_model import BestModel
from model_training.early_stopping.standing import is_due, updated_standing
from model_training.early_stopping.validation import Validation
from model_training.models.model import Model
from model_training.parts.inputs import flat_inputs
from model_training.training.prediction import in_batches
from streamer.features import Layout
from streamer.types import F32, I32


def stop_variable() -> tf.Variable:
    """The variable `stop_at`, int64 scalar, in the graph of each process."""
    first = tf.zeros([], tf.int64)
    return tf.compat.v1.Variable(first, name="stop_at", trainable=False, use_resource=True)


class StoppingHook(tf.compat.v1.train.SessionRunHook):  # type: ignore[misc]  # TensorFlow has no types
    """Evaluates the model at intervals, and keeps the best one.

    It sets `stop_at` when the model no longer improves. In mode `async`, and with backup workers, other processes make
    steps during an evaluation: the stored model may be some steps newer than the evaluated one.

    Args:
        model: the model in the graph under construction.
        made: the number of steps after the step that a run of the session makes.
    """

    def __init__(
        self,
        run: Run,
        settings: EarlyStoppingConfig,
        validation: Validation,
        model: Model,
        *,
        made: tf.Tensor,
        stop_at: tf.Variable,
    ) -> None:
        self._settings, self._validation = settings, validation
        self._checkpoints, self._best = run.checkpoints, BestModel(run.checkpoints)
        self._standing = self._best.read()
        self._step_examples = run.config.batch_size * run.schedule.aggregated
        layout = Layout(run.spec)
        self._ids = tf.compat.v1.placeholder(tf.int32, [None, layout.row_ids])
        self._floats = tf.compat.v1.placeholder(tf.float32, [None, layout.row_floats])
        self._ctr = tf.sigmoid(model.logits(flat_inputs(layout, self._ids, self._floats)))
        self._step = tf.compat.v1.train.get_global_step().read_value()
        self._made = made
        # Two steps from now, because processes may be in the next step. Set once, because processes may have read it.
        self._stop = stop_at.assign(tf.where(stop_at > 0, stop_at, self._step + 2))
        self._saver = tf.compat.v1.train.Saver(model.trainable_variables, sharded=True)
        self._examples, self._evaluated_at = 0, -1

    # The base class gives these names.

    def after_create_session(self, session: tf.compat.v1.Session, coord: tf.train.Coordinator) -> None:
        """Continues at the checkpoint's step; makes its evaluation if the run was killed before it."""
        self._examples = int(session.run(self._step)) * self._step_examples
        evaluated = 0 if self._standing is None else self._standing.evaluated
        if is_due(evaluated, self._examples, self._validation.every):
            self._evaluate(session)

    def before_run(self, run_context: tf.compat.v1.train.SessionRunContext) -> tf.compat.v1.train.SessionRunArgs:
        """Requests the number of steps."""
        return tf.compat.v1.train.SessionRunArgs(self._made)

    def after_run(
        self, run_context: tf.compat.v1.train.SessionRunContext, run_values: tf.compat.v1.train.SessionRunValues
    ) -> None:
        """Evaluates the model if an evaluation is due."""
        before, self._examples = self._examples, int(run_values.results) * self._step_examples
        if is_due(before, self._examples, self._validation.every):
            self._evaluate(run_context.session)

    def end(self, session: tf.compat.v1.Session) -> None:
        """Evaluates the last model too."""
        self._examples = int(session.run(self._step)) * self._step_examples
        if self._examples != self._evaluated_at:
            self._evaluate(session)

    def _evaluate(self, session: tf.compat.v1.Session) -> None:
        self._evaluated_at = self._examples

        def ctr(ids: I32, floats: F32) -> F32:
            return np.asarray(session.run(self._ctr, {self._ids: ids, self._floats: floats}))

        metric = self._settings.metric
        # A session has its graph as the default one of this thread, where examples cannot be read.
        with ThreadPoolExecutor(1, "validation") as thread:
            value = thread.submit(self._validation.value, in_batches(ctr), metric).result()
        summary = tf.compat.v1.Summary()
        summary.value.add(tag=f"validation_{metric}", simple_value=value)
        writer = tf.compat.v1.summary.FileWriterCache.get(str(self._checkpoints))
        writer.add_summary(summary, self._examples // self._step_examples)
        self._standing = updated_standing(self._standing, value, self._examples, self._settings)

        def save(path: str) -> None:
            self._saver.save(session, path, write_meta_graph=False, write_state=False)

        try:
            self._best.write(self._standing, save)
        except (OSError, tf.errors.OpError) as error:
            raise not_written(self._checkpoints, error) from error
        if self._standing.ends(self._settings):
            session.run(self._stop)
