"""Early stopping of a run that holds its whole model: judges it now and then, and keeps the best one."""

from collections.abc import Callable

import tensorflow as tf

from model_training.checkpoints import Checkpoints, Position, load_model, not_written, save_model
from model_training.config.training import EarlyStoppingConfig
from model_training.early_stopping.best_model import Best
from model_training.early_stopping.standing import is_due, judged
from model_training.early_stopping.validation import Predict, Validation
from model_training.models.model import Model


class EarlyStopping:
    """Says when a model gets no better, and sets it to the best one at the end.

    Args:
        every: examples between evaluations.
        checkpoints: beside which the best model is kept.
        validation: None in a process that only hears what another one has found.
        agree: makes of the own verdict that of all processes of the run.
    """

    def __init__(
        self,
        settings: EarlyStoppingConfig,
        every: int,
        *,
        model: Model,
        predict: Predict,
        checkpoints: Checkpoints,
        validation: Validation | None,
        agree: Callable[[bool], bool] = bool,
    ) -> None:
        self._settings, self._every, self._agree = settings, every, agree
        self._model, self._predict, self._validation = model, predict, validation
        self._checkpoints, self._best = checkpoints, Best(checkpoints.directory)
        self._judged_at: Position | None = None
        self.standing = self._best.read() if validation is not None else None

    @property
    def has_ended(self) -> bool:
        """Whether the run had been ended before this start of it."""
        return self._agree(self.standing is not None and self.standing.ends(self._settings))

    def ends(self, before: Position, after: Position) -> bool:
        """Whether training is to end; judges the model if the step from `before` to `after` makes that due.

        Raises:
            ExportError: the model cannot be kept.
        """
        return is_due(before.examples, after.examples, self._every) and self._judge(after)

    def close(self, at: Position) -> None:
        """Judges the last model too and sets the model to the best one.

        Raises:
            ExportError: the model cannot be kept.
        """
        if at != self._judged_at:
            self._judge(at)
        if self.standing is not None:
            load_model(self._model, self._best.checkpoint(self.standing))

    def _judge(self, at: Position) -> bool:
        self._judged_at = at
        if self._validation is None:
            return self._agree(False)
        value = self._validation.value(self._predict, self._settings.metric)
        self._checkpoints.tell(f"validation_{self._settings.metric}", value, at.steps)
        self.standing = judged(self.standing, value, at.examples, self._settings)
        try:
            self._best.write(self.standing, lambda path: save_model(self._model, path))
        except (OSError, tf.errors.OpError) as error:
            raise not_written(self._checkpoints.directory, error) from error
        return self._agree(self.standing.ends(self._settings))
