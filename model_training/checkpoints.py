"""A run's state on disk: the folder's identity, and checkpoints of whole models.

A run continues from this state. Parameter servers write checkpoints in another format, with tables in shards, into the
same kind of folder.
"""

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from model_training.errors import ConfigError, DataError, ExportError, in_a_line
from model_training.identity import IDENTITY, RunIdentity, read_identity, write_identity
from model_training.models.model import Model
from model_training.urls import UrlPath

STANDING = "best/standing.json"
"""The standing of early stopping inside a folder of checkpoints."""
_LOCK = "run.lock"
_KEPT = 3
_VALUE = ".ATTRIBUTES/VARIABLE_VALUE"
_SCALAR = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"})
_UNREADABLE = (AssertionError, ValueError, LookupError, RuntimeError, tf.errors.OpError)
"""TensorFlow's errors for a checkpoint that is damaged, or has other variables or shapes."""


@dataclass(frozen=True, slots=True)
class Position:
    """Progress of a run, over all its processes."""

    steps: int = 0
    examples: int = 0


@contextmanager
def claimed(directory: Path, identity: RunIdentity) -> Iterator[str | None]:
    """Takes a folder for a run while it is in progress; yields the run's last checkpoint.

    None if there is no checkpoint yet. The folder is new, or of the same run, or its run has stored nothing.

    Invariants: (1) no other run or process takes the folder meanwhile; (2) the record of a folder's run is replaced
    only while nothing of that run is stored and no process has the folder. By URL, and where the file system has no
    locks, a folder stays that of its first run, and (1) does not hold.

    Raises:
        ConfigError: the folder holds another run or checkpoints of an unknown one, another process trains in it, or it
            cannot be read or written.
    """
    _check(directory, identity, may_replace=True)  # a folder of another run stays as it is
    with ExitStack() as stack:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            is_locked = _lock(directory, stack)
            last, is_new = _check(directory, identity, may_replace=is_locked)
            if is_new:
                write_identity(directory, identity)
        except OSError as error:
            raise ConfigError(f"{directory}: cannot be written: {in_a_line(error)}") from error
        yield last


def _check(directory: Path, identity: RunIdentity, *, may_replace: bool) -> tuple[str | None, bool]:
    """The last checkpoint of a folder that a run may take, and whether to write its record."""
    found, last = read_identity(directory), tf.train.latest_checkpoint(str(directory))
    if found is None and last is not None:
        raise ConfigError(
            f"{directory}: holds checkpoints, but no {IDENTITY} that says of which run: use another folder"
        )
    is_new = found is None or (may_replace and last is None and not (directory / STANDING).exists())
    if found is not None and not is_new:
        identity.check(found, directory)
    return last, is_new


def _lock(directory: Path, stack: ExitStack) -> bool:
    """Locks a folder until `stack` is closed; False if its file system has no locks."""
    if isinstance(directory, UrlPath):
        return False
    file = stack.enter_context((directory / _LOCK).open("ab"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(f"{directory}: another process trains in this folder: use another folder") from None
    except OSError:
        return False
    return True


class Checkpoints:
    """Checkpoints of model, optimizer slots and position, and summaries for TensorBoard.

    Invariant: the last checkpoint is complete, whenever the process ends.

    Args:
        every_seconds: time between checkpoints.
        now: seconds, monotonic.
        writes: whether this process writes the checkpoints; the other processes of a run only read them.
    """

    def __init__(self, directory: Path, *, every_seconds: float, now: float, writes: bool = True) -> None:
        self.directory = directory
        self.writes = writes
        self._every, self._due = every_seconds, now + every_seconds
        self._last = tf.train.latest_checkpoint(str(directory))
        self._steps, self._examples = (tf.Variable(0, dtype=tf.int64, trainable=False) for _ in range(2))
        self._manager: tf.train.CheckpointManager | None = None
        self._summaries: tf.summary.SummaryWriter | None = None

    @property
    def position(self) -> Position:
        """The position of the last checkpoint at the time of creation; without one, the start.

        Raises:
            DataError: the checkpoint cannot be read.
        """
        if self._last is None:
            return Position()
        try:
            steps, examples = (
                int(tf.train.load_variable(self._last, f"{name}/{_VALUE}")) for name in ("steps", "examples")
            )
        except _UNREADABLE as error:
            raise DataError(f"{self._last}: is damaged: {in_a_line(error)}") from error
        return Position(steps, examples)

    def attach(self, model: Model, optimizer: tf.Module) -> None:
        """Sets the objects to save, and restores them from the last checkpoint.

        Raises:
            DataError: the checkpoint is of another model or cannot be read.
        """
        checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, steps=self._steps, examples=self._examples)
        if self._last is not None:
            _restore(checkpoint, self._last)
        self._manager = tf.train.CheckpointManager(checkpoint, str(self.directory), max_to_keep=_KEPT)

    def is_due(self, now: float) -> bool:
        """Whether the next checkpoint is due."""
        return self.writes and now >= self._due

    def save(self, position: Position, now: float) -> None:
        """Writes a checkpoint.

        Raises:
            ExportError: the checkpoint cannot be written.
        """
        if not self.writes:
            return
        assert self._manager is not None, "attach must be called before save"
        self._steps.assign(position.steps)
        self._examples.assign(position.examples)
        try:
            self._manager.save(checkpoint_number=position.steps)
        except (OSError, tf.errors.OpError) as error:
            raise not_written(self.directory, error) from error
        self._due = now + self._every

    def summarise(self, tag: str, value: float, steps: int) -> None:
        """Writes a number for TensorBoard, which need not be installed.

        Raises:
            ExportError: the number cannot be written.
        """
        if not self.writes:
            return
        try:
            if self._summaries is None:
                self._summaries = tf.summary.create_file_writer(str(self.directory))
            with self._summaries.as_default():
                tf.summary.write(tag, tf.constant(value, tf.float32), step=steps, metadata=_SCALAR)
        except tf.errors.OpError as error:
            raise not_written(self.directory, error) from error


def save_model(model: Model, path: str) -> None:
    """Writes a checkpoint that contains a whole model and nothing else."""
    tf.train.Checkpoint(model=model).write(path)


def load_model(model: Model, path: str) -> None:
    """Restores `model` from a checkpoint, and ignores the checkpoint's other content.

    Raises:
        DataError: the checkpoint is of another model or cannot be read.
    """
    _restore(tf.train.Checkpoint(model=model), path)


def not_written(directory: Path, error: Exception) -> ExportError:
    """The error for a run's folder that cannot be written."""
    return ExportError(f"{directory}: cannot be written: {in_a_line(error)}")


def _restore(checkpoint: tf.train.Checkpoint, path: str) -> None:
    try:
        checkpoint.read(path).assert_existing_objects_matched().expect_partial()
    except _UNREADABLE as error:
        raise DataError(f"{path}: is damaged, or of another model: {in_a_line(error)}") from error
