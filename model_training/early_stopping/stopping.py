"""Early stopping of a run whose process holds the whole model."""

from collections.abc import Callable

import tensorflow as tf

from model_training.checkpoints import Checkpoints, Position, load_model, not_written, save_model
from model_training.config.training import EarlyStoppingConfig
from model_training.early_stopping.best_model import BestModel
from model_training.early_stopping.standing import is_due, updated_standing
from model_training.early_stopping.validation import Predict, Validation
from model_training.models.model import Model


class EarlyStopping:
    """Evaluates the model at intervals, ends training, and then restores the best model.

    Args:
        every: number of training examples between two evaluations.
        checkpoints: the run's checkpoints; the best model is kept in the same folder.
        validation: None in a process that follows the decision of another process.
        agree: combines the decisions of all processes of the run: True if any of them says True.
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
        self._checkpoints, self._best = checkpoints, BestModel(checkpoints.directory)
        self._evaluated_at: Position | None = None
        self.standing = self._best.read() if validation is not None else None

    @property
    def has_ended(self) -> bool:
        """Whether the run had already ended before this process started."""
        return self._agree(self.standing is not None and self.standing.ends(self._settings))

    def ends(self, before: Position, after: Position) -> bool:
        """Evaluates the model if the step from `before` to `after` makes that due.

        Returns whether training must end.

        Raises:
            ExportError: the model cannot be written.
        """
        return is_due(before.examples, after.examples, self._every) and self._evaluate(after)

    def close(self, at: Position) -> None:
        """Evaluates the last model too, and restores the best one.

        Raises:
            ExportError: the model cannot be written.
        """
        if at != self._evaluated_at:
            self._evaluate(at)
        if self.standing is not None:
            load_model(self._model, self._best.checkpoint(self.standing))

    def _evaluate(self, at: Position) -> bool:
        self._evaluated_at = at
        if self._validation is None:
            return self._agree(False)
        value = self._validation.value(self._predict, self._settings.metric)
        self._checkpoints.summarise(f"validation_{self._settings.metric}", value, at.steps)
        self.standing = updated_standing(self.standing, value, at.examples, self._settings)
        try:
            self._best.write(self.standing, lambda path: save_model(self._model, path))
        except (OSError, tf.errors.OpError) as error:
            raise not_written(self._checkpoints.directory, error) from error
        return self._agree(self.standing.ends(self._settings))
