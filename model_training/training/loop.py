"""The loop around a run's steps: progress, checkpoints, summaries, and the end."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from model_training.checkpoints import Checkpoints, Position
from model_training.data.input_pipeline import Batch
from model_training.early_stopping.standing import Standing
from model_training.early_stopping.stopping import EarlyStopping
from model_training.errors import DataError, in_a_line

_REPORT_EVERY = 20

Step = Callable[..., tf.Tensor]
"""Learns from a batch and returns the mean loss before the update, float32 scalar."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a run; `loss` is the mean of the last few steps."""

    steps: int
    examples: int
    loss: float


Report = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The result of a run.

    Attributes:
        steps, examples, seconds: of this process only; a continued run made steps before it started.
        loss: mean log loss of the second half of the steps, each before its own update; NaN without steps.
        best: with early stopping, the standing by which the model was chosen.
        total: steps and examples of the whole run, with those before this process started.
    """

    steps: int
    examples: int
    seconds: float
    examples_per_second: float
    loss: float
    best: Standing | None = None
    total: Position = field(default_factory=Position)


def run_steps(
    step: Step,
    data: tf.data.Dataset,
    report: Report | None,
    *,
    checkpoints: Checkpoints | None = None,
    stopping: EarlyStopping | None = None,
    replicas: int = 1,
    report_seconds: float = 0.0,
) -> TrainResult:
    """Makes one step for each batch of `data`, which begins at the checkpoint's position.

    Args:
        replicas: number of processes that make each step together, each with its own batch.
        report_seconds: the shortest time between two reports; the last report is always made.

    Raises:
        DataError: there are no batches, they cannot be read, or the loss is no longer finite.
        ExportError: a checkpoint cannot be written.
    """
    started = time.monotonic()
    first = at = checkpoints.position if checkpoints is not None else Position()
    losses, reported, reported_at = _Losses(checkpoints), first, started
    over = stopping is not None and stopping.has_ended
    for batch in () if over else _read(data):
        losses.add(step(*batch))
        before, at = at, Position(at.steps + 1, at.examples + batch[0].shape[0] * replicas)
        now = time.monotonic()
        if losses.steps == _REPORT_EVERY:
            loss = losses.take(at)
            if report is not None and now - reported_at >= report_seconds:
                report(Progress(at.steps, at.examples, loss))
                reported, reported_at = at, now
        saves = checkpoints is not None and checkpoints.is_due(now)
        if saves:
            losses.check()
        # Before the checkpoint: a run that is killed in between makes this evaluation again.
        ends = stopping is not None and stopping.ends(before, at)
        if checkpoints is not None and saves:
            checkpoints.save(at, now)
        if ends:
            break
    if not at.steps and not over:
        raise DataError("there are no examples to train on")
    if losses.steps:
        losses.take(at)
    if report is not None and reported != at:
        report(Progress(at.steps, at.examples, losses.last))
    if checkpoints is not None and at != first:
        checkpoints.save(at, time.monotonic())
    if stopping is not None:
        stopping.close(at)
    seconds, examples = time.monotonic() - started, at.examples - first.examples
    best = stopping.standing if stopping is not None else None
    return TrainResult(at.steps - first.steps, examples, seconds, examples / seconds, losses.of_second_half, best, at)


class _Losses:
    """Sums losses inside TensorFlow until their mean is read."""

    def __init__(self, checkpoints: Checkpoints | None) -> None:
        self.steps = 0
        self._checkpoints = checkpoints
        self._sum = tf.Variable(0.0, trainable=False)
        self._means: list[float] = []

    def add(self, loss: tf.Tensor) -> None:
        self.steps += 1
        self._sum.assign_add(loss)

    def check(self) -> None:
        if not np.isfinite(float(self._sum.numpy())):
            raise DataError(
                "the loss is no longer finite: lower the learning rates, or look for huge numbers in the data"
            )

    def take(self, at: Position) -> float:
        """The mean of the losses since the last call."""
        self.check()
        self._means.append(float(self._sum.numpy()) / self.steps)
        self._sum.assign(0.0)
        self.steps = 0
        if self._checkpoints is not None:
            self._checkpoints.summarise("loss", self.last, at.steps)
        return self.last

    @property
    def last(self) -> float:
        return self._means[-1]

    @property
    def of_second_half(self) -> float:
        return float(np.mean(self._means[len(self._means) // 2 :])) if self._means else float("nan")


def _read(data: tf.data.Dataset) -> Iterator[Batch]:
    """The batches; an error while they are read becomes a `DataError`."""
    batches = iter(data)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except tf.errors.OpError as error:
            raise DataError(f"the records cannot be read: {in_a_line(error)}") from error
        yield batch
