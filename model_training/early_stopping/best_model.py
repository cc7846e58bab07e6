"""The best model of a run so far and its standing, on disk beside the run's checkpoints."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import orjson
import tensorflow as tf

from model_training.checkpoints import STANDING
from model_training.config.training import TrainingConfig
from model_training.early_stopping.standing import Standing
from model_training.errors import DataError


class BestModel:
    """Keeps the best model and the standing of the run.

    Invariant: the model of the standing on disk is complete, whenever the process ends.
    """

    def __init__(self, checkpoints: Path) -> None:
        self._standing = checkpoints / STANDING
        self._folder = self._standing.parent

    def read(self) -> Standing | None:
        """The standing after the last evaluation; None before the first one.

        Raises:
            DataError: the standing cannot be read.
        """
        path = self._standing
        try:
            return Standing(**orjson.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{path}: cannot be read: {error}") from error

    def checkpoint(self, standing: Standing) -> str:
        """The path of the best model's checkpoint, without file name endings."""
        return str(self._folder / f"model-{standing.examples}")

    def write(self, standing: Standing, save: Callable[[str], object]) -> None:
        """Stores a standing; for a new best model, `save` writes its checkpoint first.

        A standing that is already stored changes nothing: it repeats after a restart from an older checkpoint.

        Raises:
            DataError: the standing on disk cannot be read.
            OSError, tf.errors.OpError: the standing or the model cannot be written.
        """
        if standing == self.read():
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self.checkpoint(standing)
        is_new = standing.examples == standing.evaluated
        if is_new:
            save(path)
        partial = self._folder / f"{self._standing.name}.partial"
        partial.write_bytes(orjson.dumps(asdict(standing)))
        partial.rename(self._standing)
        if is_new:
            for file in self._folder.glob("model-*"):
                if file.is_file() and file.name.split(".")[0] != Path(path).name:
                    file.unlink()


def result_checkpoint(directory: Path, config: TrainingConfig) -> str:
    """The checkpoint of a run's result: the best with early stopping, otherwise the last.

    Raises:
        DataError: there is no checkpoint.
    """
    if config.early_stopping is not None and (standing := BestModel(directory).read()) is not None:
        return BestModel(directory).checkpoint(standing)
    last = tf.train.latest_checkpoint(str(directory))
    if last is None:
        raise DataError(f"{directory}: holds no checkpoint")
    return str(last)
