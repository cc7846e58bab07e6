"""What a sampled request, its batches and their calls record: times and ids. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from streamer.deadline import Deadline
from streamer.tracing.context import TraceContext
from streamer.tracing.outcomes import Outcome
from streamer.types import Header

Attributes = Mapping[str, str | float]


class Stage(NamedTuple):
    """A stage of a request, in monotonic seconds."""

    name: str
    start: float
    end: float
    attributes: Attributes


class Call(NamedTuple):
    """A call to one model server, in monotonic seconds; `code`: `OK`, or as in `PredictError`."""

    context: TraceContext
    address: str
    start: float
    end: float
    code: str


@dataclass(frozen=True, slots=True)
class Recorder:
    """What recorded objects share: monotonic seconds, random ids, and where finished ones go."""

    clock: Callable[[], float]
    finished: Callable[["Finished"], None]
    random: Random = field(default_factory=Random)

    def new_id(self, bits: int = 64) -> int:
        """A random id that is not 0."""
        return self.random.getrandbits(bits) or 1


@dataclass(slots=True, eq=False)
class RequestTrace:
    """The times of one sampled request.

    Attributes:
        context: of the request's span; parent: of the span that the request came with.
        is_http: whether it came over HTTP, and not on a topic.
        start: when its budget began; at: when it was received.
        predicting, publishing: contexts of the spans that calls and answers are below.
        batches: contexts of the batches with its rows.
        left_ms: budget left when the answer was ready; None without an answer.
        outcome, end: None and 0 before `finish`.
    """

    recorder: Recorder
    context: TraceContext
    parent: TraceContext | None
    is_http: bool
    start: float
    at: float
    predicting: TraceContext
    publishing: TraceContext
    stages: list[Stage] = field(default_factory=list)
    batches: list[TraceContext] = field(default_factory=list)
    left_ms: float | None = None
    outcome: Outcome | None = None
    end: float = 0.0
    _last: float = field(init=False)

    def __post_init__(self) -> None:
        self._last = self.at

    @property
    def trace_id(self) -> str:
        """The id of the trace, in hexadecimal digits."""
        return f"{self.context.trace_id:032x}"

    @property
    def spans(self) -> int:
        """The number of its spans."""
        return 1 + len(self.stages) + (self.at > self.start)

    def stage(self, name: str, **attributes: str | float) -> None:
        """Ends a stage now that began when the previous one ended."""
        now = self.recorder.clock()
        self.stages.append(Stage(name, self._last, now, attributes))
        self._last = now

    def called(self, queued: float, left: float, replied: float) -> None:
        """Records queue and call of some rows; `left` and `replied` are 0 if they did not happen."""
        self._last = now = self.recorder.clock()
        self.stages.append(Stage("queue", queued, left or now, {}))
        if left:
            self.stages.append(Stage("predict", left, replied or now, {}))

    def answered(self, headers: Iterable[Header], deadline: Deadline) -> list[Header]:
        """Ends the stage `answer`; returns the answer's headers.

        The spans of its readers are below the one that publishes it; over HTTP below that of the request.
        """
        self.stage("answer")
        self.left_ms = deadline.remaining(self._last) * 1e3
        return (self.context if self.is_http else self.publishing).replaced_in(headers)

    def finish(self, outcome: Outcome) -> None:
        """Ends the request, whose answer is acknowledged."""
        if not self.is_http:
            self.stage("publish")
        self.outcome, self.end = outcome, self._last
        self.recorder.finished(self)


@dataclass(slots=True, eq=False)
class BatchTrace:
    """The times of a batch with rows of sampled requests.

    It is in the trace of the first of them, and linked to all.

    Attributes:
        requests: those contexts, of the stage `predict`.
        rows, size: of the batch, with the requests that are not sampled.
        error: the code with which it failed.
    """

    recorder: Recorder
    context: TraceContext
    requests: Sequence[TraceContext]
    model: str
    version: int
    reason: str
    rows: int
    size: int
    start: float
    calls: list[Call] = field(default_factory=list)
    error: str | None = None
    end: float = 0.0

    @classmethod
    def of(
        cls, traces: Sequence[RequestTrace], model: str, version: int, *, reason: str, rows: int, size: int
    ) -> "BatchTrace":
        """A batch that leaves now; `traces`: of its sampled requests, one at least."""
        first = traces[0]
        recorder = first.recorder
        context = first.context.child(recorder.new_id())
        for trace in traces:
            trace.batches.append(context)
        requests = [trace.predicting for trace in traces]
        return cls(recorder, context, requests, model, version, reason, rows, size, recorder.clock())

    @property
    def spans(self) -> int:
        """The number of its spans."""
        return 1 + len(self.calls)

    def call(self) -> TraceContext:
        """The context of a new call."""
        return self.context.child(self.recorder.new_id())

    def called(self, context: TraceContext, address: str, start: float, code: str) -> None:
        """Ends a call."""
        self.calls.append(Call(context, address, start, self.recorder.clock(), code))

    def finish(self) -> None:
        """Ends the batch."""
        self.end = self.recorder.clock()
        self.recorder.finished(self)


Finished = RequestTrace | BatchTrace

BATCH: ContextVar[BatchTrace | None] = ContextVar("batch", default=None)
"""The batch that the running task calls a model server for, if one of its requests is sampled."""
