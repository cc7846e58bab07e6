"""The best model of a run so far, on disk beside its checkpoints, and what was found of it."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import orjson
import tensorflow as tf

from model_training.config.training import TrainingConfig
from model_training.early_stopping.standing import Standing
from model_training.errors import DataError

_FOLDER = "best"
_STANDING = "standing.json"


class Best:
    """Keeps one model and its standing.

    Invariant: the standing that is read names the model that it judged, which is there whole, whenever its process was
    ended.
    """

    def __init__(self, checkpoints: Path) -> None:
        self._folder = checkpoints / _FOLDER

    def read(self) -> Standing | None:
        """The standing of the last evaluation; None before the first.

        Raises:
            DataError: it cannot be read.
        """
        path = self._folder / _STANDING
        try:
            return Standing(**orjson.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{path}: cannot be read: {error}") from error

    def checkpoint(self, standing: Standing) -> str:
        """The path, without endings, of the best model's checkpoint."""
        return str(self._folder / f"model-{standing.examples}")

    def write(self, standing: Standing, save: Callable[[str], object]) -> None:
        """Takes a standing down; if it is that of a new best model, `save` writes this one's checkpoint first.

        One that is taken down already changes nothing: a run that goes on from an older checkpoint comes by again.

        Raises:
            DataError: the one before cannot be read.
            OSError, tf.errors.OpError: it cannot be written.
        """
        if standing == self.read():
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self.checkpoint(standing)
        is_new = standing.examples == standing.evaluated
        if is_new:
            save(path)
        partial = self._folder / f"{_STANDING}.partial"
        partial.write_bytes(orjson.dumps(asdict(standing)))
        partial.rename(self._folder / _STANDING)
        if is_new:
            for file in self._folder.glob("model-*"):
                if file.is_file() and file.name.split(".")[0] != Path(path).name:
                    file.unlink()


def chosen(directory: Path, config: TrainingConfig) -> str:
    """The checkpoint that is a run's result: with early stopping that of the best model, else the last.

    Raises:
        DataError: there is none.
    """
    if config.early_stopping is not None and (standing := Best(directory).read()) is not None:
        return Best(directory).checkpoint(standing)
    last = tf.train.latest_checkpoint(str(directory))
    if last is None:
        raise DataError(f"{directory}: holds no checkpoint")
    return str(last)
