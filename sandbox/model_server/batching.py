"""Runs requests of several callers as one batch, as TensorFlow Serving's BatchingSession."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from sandbox.model_server.batch_arrays import Arrays, merged, padded_rows, rows_of, split
from sandbox.model_server.batch_queue import BatchQueue
from sandbox.model_server.batching_parameters import Batching
from sandbox.model_server.graph import RunnableGraph
from sandbox.model_server.monitoring import QUEUING_LATENCY, WRAPPED_RUN_COUNT, ServerMetrics
from sandbox.model_server.signature import dtype_of
from sandbox.model_server.status import StatusError, invalid_argument
from sandbox.model_server.tensors import numpy_type, type_name


@dataclass(slots=True, eq=False)
class _Task:
    """Rows of one request. After `done` it has results by tensor name, or an error."""

    feeds: Arrays
    rows: int
    deadline_s: float
    submitted_s: float
    done: threading.Event = field(default_factory=threading.Event)
    results: dict[str, NDArray[Any]] = field(default_factory=dict)
    error: StatusError | None = None


# TensorFlow Serving's default name; `thread_pool_name` of the parameters is not used.
_POOL = "batch_threads"
_Process = Callable[[list[_Task]], None]
_Queue = BatchQueue[_Task]


class BatchThreads:
    """`count` threads that run the batches of all queues, one queue after the other.

    They start with the first queue and live as long as the process.
    """

    def __init__(self, count: int, metrics: ServerMetrics) -> None:
        self.metrics = metrics
        self._count = count
        self._changed = threading.Condition()
        self._queues: deque[tuple[_Queue, _Process]] = deque()
        self._started = False

    def attach(self, queue: _Queue, process: _Process) -> None:
        """From now on batches of `queue` are run by `process`, which must not raise."""
        with self._changed:
            self._queues.append((queue, process))
            if not self._started:
                self._started = True
                for number in range(self._count):
                    threading.Thread(target=self._run, name=f"batch {number}", daemon=True).start()

    def detach(self, queues: Collection[_Queue]) -> None:
        """From now on no batch of these queues is run; tasks that wait there get UNAVAILABLE."""
        gone = set(map(id, queues))
        with self._changed:
            self._queues = deque(pair for pair in self._queues if id(pair[0]) not in gone)
            left = [task for queue in queues for task in queue.drain()]
        for task in left:
            task.error = StatusError(grpc.StatusCode.UNAVAILABLE, "The version is unloaded")
            task.done.set()

    def submit(self, queue: _Queue, feeds: Arrays, rows: int, deadline_s: float) -> list[_Task]:
        """The tasks of one request, which wait for a batch. A full queue raises `StatusError`."""
        now = time.monotonic()
        with self._changed:
            tasks, start = [], 0
            for size in queue.sizes(rows):
                part = feeds if size == rows else {name: a[start : start + size] for name, a in feeds.items()}
                tasks.append(_Task(part, size, deadline_s, now))
                start += size
            for task in tasks:
                queue.add(task, time.monotonic())
            self._changed.notify()
        return tasks

    def withdraw(self, queue: _Queue, tasks: Iterable[_Task]) -> None:
        with self._changed:
            for task in tasks:
                queue.remove(task)

    def _run(self) -> None:
        while True:
            with self._changed:
                while (work := self._next()) is None:
                    ready_s = min((queue.ready_s for queue, _ in self._queues), default=math.inf)
                    self._changed.wait(None if ready_s == math.inf else max(ready_s - time.monotonic(), 0.0))
                # Another queue may be ready, too, and only this thread is awake.
                self._changed.notify()
            process, tasks = work
            process(tasks)

    def _next(self) -> tuple[_Process, list[_Task]] | None:
        for _ in range(len(self._queues)):
            queue, process = self._queues[0]
            self._queues.rotate(-1)
            if tasks := queue.pop(time.monotonic()):
                return process, tasks
        return None


class BatchedGraph:
    """A graph whose runs are batched, one queue for each signature.

    Rows are the first dimension of all inputs and outputs. A run that is not exactly a signature's inputs and outputs
    (an output filter, several signatures at once) is not batched.
    """

    def __init__(
        self, graph: RunnableGraph, definitions: Iterable[SignatureDef], options: Batching, threads: BatchThreads
    ) -> None:
        self._graph = graph
        self._options = options
        self._threads = threads
        self._queues: dict[tuple[frozenset[str], frozenset[str]], _Queue] = {}
        self._dtypes: dict[str, np.dtype[Any] | None] = {}
        for definition in definitions:
            self._dtypes |= {info.name: numpy_type(dtype_of(info)) for info in definition.inputs.values()}
            fetches = sorted({info.name for info in definition.outputs.values()})
            key = frozenset(info.name for info in definition.inputs.values()), frozenset(fetches)
            if key not in self._queues:
                self._queues[key] = BatchQueue(options)
                threads.attach(self._queues[key], partial(self._process, fetches))

    def run(self, feeds: Mapping[str, Any], fetches: Sequence[str], remaining_s: float) -> list[Any]:
        """As `SessionGraph.run`; a run without rows waits for one with rows, or its deadline."""
        queue = self._queues.get((frozenset(feeds), frozenset(fetches)))
        if queue is None:
            return self._graph.run(feeds, fetches, remaining_s)
        rows = rows_of(feeds)
        self._check_types(feeds)
        deadline_s = time.monotonic() + remaining_s
        tasks = self._threads.submit(queue, feeds, rows, deadline_s)
        for task in tasks:
            left_s = deadline_s - time.monotonic()
            if not task.done.wait(None if left_s == math.inf else max(left_s, 0.0)):
                self._threads.withdraw(queue, tasks)
                raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        for task in tasks:
            if task.error is not None:
                raise task.error
        if len(tasks) == 1:
            return [tasks[0].results[name] for name in fetches]
        return [np.concatenate([task.results[name] for task in tasks]) for name in fetches]

    def close(self) -> None:
        self._threads.detach(self._queues.values())
        self._graph.close()

    def _check_types(self, feeds: Arrays) -> None:
        """Rejects a wrong type before it joins the rows of others, with the text of TensorFlow."""
        for position, name in enumerate(sorted(feeds)):
            expected, actual = self._dtypes[name], feeds[name].dtype
            if expected is not None and actual != expected:
                text = f"Expects arg[{position}] to be {_short(expected)} but {_short(actual)} is provided"
                raise invalid_argument(text)

    def _process(self, fetches: list[str], tasks: list[_Task]) -> None:
        try:
            self._run_batch(fetches, tasks)
        except Exception as error:  # noqa: BLE001  # the thread must go on, and every task must end
            for task in tasks:
                task.error = error if isinstance(error, StatusError) else _internal(error)
        finally:
            for task in tasks:
                task.done.set()

    def _run_batch(self, fetches: list[str], tasks: list[_Task]) -> None:
        now, metrics = time.monotonic(), self._threads.metrics
        for task in tasks:
            metrics.observe(QUEUING_LATENCY, _POOL, value=(now - task.submitted_s) * 1e6)
        remaining_s = max(task.deadline_s for task in tasks) - now
        if remaining_s <= 0.0:
            text = "Run() timeout exceeded while waiting in batching queue"
            raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        sizes = [task.rows for task in tasks]
        metrics.count(WRAPPED_RUN_COUNT)
        results = self._graph.run(merged([task.feeds for task in tasks], self._options), fetches, remaining_s)
        for name, result in zip(fetches, results, strict=True):
            parts = split(np.asarray(result), sizes, padded_rows(sum(sizes), self._options))
            for task, part in zip(tasks, parts, strict=True):
                task.results[name] = part


def _short(dtype: np.dtype[Any]) -> str:
    return type_name(dtype).removeprefix("DT_").lower()


def _internal(error: Exception) -> StatusError:
    return StatusError(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")
