"""Which requests form a batch, and when it leaves. Pure."""

import math
from collections import deque
from typing import Generic, Protocol, TypeVar

import grpc

from sandbox.model_server.batching_parameters import Batching
from sandbox.model_server.status import StatusError, invalid_argument

_FULL = "The batch scheduling queue to which this task was submitted is full; "


class Sized(Protocol):
    """A part of a batch, of `rows` rows."""

    @property
    def rows(self) -> int: ...


T = TypeVar("T", bound=Sized)


class BatchQueue(Generic[T]):
    """Batches of one signature's tasks, formed as by TensorFlow Serving. Times are seconds.

    Invariants:
    - Tasks leave in the order in which they came, and each one once.
    - No batch has more rows than one run may have.
    - A batch without rows does not leave: its tasks wait for one with rows.
    - A full queue rejects a request and does not change.
    """

    def __init__(self, options: Batching) -> None:
        self._options = options
        self._largest = (options.split_large and options.max_execution_rows) or options.max_rows
        self._batches: deque[list[T]] = deque([[]])
        self._opened_s = 0.0

    def sizes(self, rows: int) -> list[int]:
        """Rows of the tasks into which a request of `rows` must be split, in this order.

        Raises `StatusError`: INVALID_ARGUMENT for too many rows, UNAVAILABLE while the queue is full.
        """
        limit, waiting = self._options.max_enqueued_batches, len(self._batches)
        if rows > self._options.max_rows:
            text = f"Task size {rows} is larger than maximum input batch size {self._options.max_rows}"
            raise invalid_argument(text)
        last = _rows(self._batches[-1])
        if not self._options.split_large:
            if last + rows > self._options.max_rows and waiting >= limit:
                raise _unavailable(f"currently {waiting} batches enqueued and max_enqueued_batches is {limit}")
            return [rows]
        free = self._largest - last
        capacity = (limit - waiting) * self._largest + free
        if rows > capacity:
            raise _unavailable(
                f"task size is {rows} but scheduling capacity is only {capacity} (num_enqueued_batches={waiting}, "
                f"max_enqueued_batches={limit}, open_batch_size={last}, max_execution_batch_size={self._largest})"
            )
        if rows <= free:
            return [rows]
        whole, rest = divmod(rows - free, self._largest)
        return [size for size in (free, *[self._largest] * whole, rest) if size]

    def add(self, task: T, now: float) -> None:
        """Puts a task at the end; its rows are one of `sizes`."""
        if _rows(self._batches[-1]) + task.rows > self._largest:
            self._batches.append([])
        if not self._batches[-1]:
            self._opened_s = now
        self._batches[-1].append(task)

    def remove(self, task: T) -> None:
        """Removes a task that has not left."""
        for batch in self._batches:
            batch[:] = [other for other in batch if other is not task]

    def drain(self) -> list[T]:
        """Removes all tasks."""
        left = [task for batch in self._batches for task in batch]
        self._batches = deque([[]])
        return left

    @property
    def ready_s(self) -> float:
        """The time from which `pop` returns a batch; infinite while none has rows."""
        rows = _rows(self._batches[0])
        if len(self._batches) > 1 or rows >= self._largest:
            return -math.inf
        return self._opened_s + self._options.timeout_us / 1e6 if rows else math.inf

    def pop(self, now: float) -> list[T] | None:
        """The oldest batch if it may leave."""
        if self.ready_s > now:
            return None
        if len(self._batches) == 1:
            self._batches.append([])
        return self._batches.popleft()


def _rows(batch: list[T]) -> int:
    return sum(task.rows for task in batch)


def _unavailable(reason: str) -> StatusError:
    return StatusError(grpc.StatusCode.UNAVAILABLE, _FULL + reason)
