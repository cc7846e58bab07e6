"""A worker of the scorer: reads partitions, batches, calls model servers, answers in time.

The queue, the latency model, the limit of concurrent calls, the circuits and the retry budget are the scorer's own.
"""

from collections import deque
from collections.abc import Callable, Collection, Generator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from simpy import Environment, Event

from benchmarks.simulation.cores import Thread
from benchmarks.simulation.costs import Costs
from benchmarks.simulation.request import Request, Status
from benchmarks.simulation.server import Code, ModelServer
from benchmarks.smallest_request import smallest_request
from streamer.errors import QueueFullError
from streamer.scoring.batching import Batch, BatchQueue, Rows, Ticket
from streamer.serving.replicas import Replicas
from streamer.settings.sections import BatchingSettings, PredictorSettings, SourceSettings
from streamer.types import EncodedRequest, ModelVersion

VERSIONS = ModelVersion("ctr", 1), ModelVersion("ctr", 2)
# Parts of a worker's CPU for a request: fetch, decoding and encoding; building and sending the call. The rest follows
# the reply.
_READ, _SEND = 0.55, 0.15
_TIME_AFTER_WAIT = 1.5
_RETRIED_ALONE = frozenset({"UNAVAILABLE"})
_Work = Generator[Event, Any, Code]


@lru_cache(maxsize=8)
def _rows_of(candidates: int) -> tuple[EncodedRequest, Rows]:
    return smallest_request(candidates), np.arange(candidates)


class Worker:
    """One worker with one thread.

    Invariants: (1) a request that it has got is answered once, or returned by `kill` or `release`; (2) at most
    `source.max_in_flight_records` requests are in flight; (3) a request is answered at the latest at its deadline.
    """

    def __init__(
        self,
        env: Environment,
        costs: Costs,
        candidates: int,
        servers: Mapping[str, ModelServer],
        *,
        answer: Callable[[Request], None],
        chance: Callable[[], float],
        thread: Thread | None = None,
    ) -> None:
        """`answer` gets each request with its status; `chance`: a random number in [0, 1)."""
        self.env, self.thread = env, thread or Thread(env)
        self.alive = True
        self.calls = 0
        self.second_share = 0.0
        self.queue = BatchQueue(BatchingSettings())
        self.replicas = Replicas(PredictorSettings(addresses=tuple(servers)), chance=chance)
        self._costs, self._candidates, self._servers, self._answer = costs, candidates, servers, answer
        self._source = SourceSettings()
        self._inbox: deque[Request] = deque()
        self._backlog: deque[Request] = deque()
        self._in_flight: dict[Request, None] = {}
        self._pending: dict[Ticket, Request] = {}
        self._active_calls = 0
        self._reading = self._expiring = False
        # CPU seconds: per chunk, call and request, and per request that is late.
        self._chunk_s, self._call_s = costs.scorer.chunk_ms / 1e3, costs.scorer.call_ms / 1e3
        self._request_s = costs.requests_s(1, candidates) - costs.requests_s(0, candidates)
        self._expired_s = costs.scorer.expired_ms / 1e3

    def deliver(self, request: Request) -> None:
        """A record of its partitions has arrived."""
        (self._backlog if request.deadline.expired(self.env.now) else self._inbox).append(request)
        self._wake()

    def _wake(self) -> None:
        if not self._reading:
            self._reading = True
            self.env.process(self._read())

    @property
    def in_flight(self) -> int:
        """Requests that were read and have no answer yet."""
        return len(self._in_flight)

    def kill(self) -> list[Request]:
        """Ends the worker; returns the requests without an answer, in order of arrival."""
        self.alive = False
        left = [*self._in_flight, *self._backlog, *self._inbox]
        for held in (self._in_flight, self._backlog, self._inbox):
            held.clear()
        return left

    def release(self, partitions: Collection[int]) -> list[Request]:
        """Stops reading some partitions; returns their unread requests. Others are answered here."""
        left = [r for held in (self._backlog, self._inbox) for r in held if r.partition in partitions]
        self._backlog, self._inbox = (
            deque(r for r in held if r.partition not in partitions) for held in (self._backlog, self._inbox)
        )
        return left

    def warm(self, calls: int) -> Generator[Event, Any, None]:
        """Calls each server with the second version, as before a switch."""
        rows = self._candidates
        for server in self._servers.values():
            for _ in range(calls):
                yield self.thread.run(self._call_s + _SEND * self._request_s)
                yield server.call(rows)

    def _read(self) -> Generator[Event, Any, None]:
        """Reads chunks in turns: of live requests, and of those that were late when delivered."""
        source, records = self._source, self._inbox
        while self.alive:
            yield self.thread.run(0.0)  # the loop's turn
            room = min(source.max_poll_records, source.max_in_flight_records - len(self._in_flight))
            first, other = (self._inbox, self._backlog) if records is self._backlog else (self._backlog, self._inbox)
            records = first or other
            if not records or room <= 0 or not self.alive:
                break
            now = self.env.now
            chunk = [records.popleft() for _ in range(min(room, len(records)))]
            late = sum(request.deadline.expired(now) for request in chunk)
            for request in chunk:
                self._in_flight[request] = None
                request.received = now
            live = len(chunk) - late
            yield self.thread.run(late * self._expired_s + _READ * live * self._request_s + self._chunk_s)
            if self.alive:
                for request in chunk:
                    self._queue(request)
                self._pump()
        self._reading = False

    def _queue(self, request: Request) -> None:
        now, deadline = self.env.now, request.deadline
        version = VERSIONS[request.share < self.second_share]
        calls = self.replicas.calls
        if deadline.expired(now) or self.queue.would_miss_deadline(version, deadline, now, calls=calls):
            self._finish(request, "expired")
            return
        encoded, rows = _rows_of(self._candidates)
        ticket = request.ticket = Ticket(version, encoded, rows, deadline, now)
        request.rows_left = self._candidates
        try:
            self.queue.add(ticket)
        except QueueFullError:
            self._finish(request, "fallback")
            return
        self._pending[ticket] = request
        if not self._expiring:
            self._expiring = True
            self.env.process(self._expire())

    def _expire(self) -> Generator[Event, Any, None]:
        """Answers requests at their deadlines. All have one budget: the oldest is the most urgent."""
        while self._pending and self.alive:
            request = next(iter(self._pending.values()))
            left = request.deadline.at - self.queue.margin_s - self.env.now
            if left <= 1e-9:
                self._finish(request, "fallback")
            else:
                yield self.env.timeout(left)
        self._expiring = False

    def _pump(self) -> None:
        while (free := self.replicas.calls_now - self._active_calls) > 0:
            now = self.env.now
            for ticket, _ in self.queue.shed(now, idle=not self._active_calls):
                self._finish(self._pending[ticket], "fallback")
            batch = self.queue.next_batch(now, calls=free)
            if batch is None:
                return
            self._active_calls += 1
            self.calls += 1
            self.env.process(self._call(batch))

    def _call(self, batch: Batch) -> Generator[Event, Any, None]:
        start, part_s = self.env.now, self._request_s * batch.rows / self._candidates
        yield self.thread.run(_SEND * part_s + (_READ + _SEND) * self._call_s)
        code = yield from self._score(batch)
        latency, now = self.queue.latency(batch.version), self.env.now
        if code is None:
            latency.observe(batch.rows, now - start)
            yield self.thread.run((1 - _READ - _SEND) * (part_s + self._call_s))
        elif code == "DEADLINE_EXCEEDED":
            latency.timed_out(batch.rows, now - start)
        self._active_calls -= 1
        if not self.alive:
            return
        for ticket, rows in batch.parts:
            if (request := self._pending.get(ticket)) is not None:
                self._settle(request, len(rows), code)
        self._pump()

    def _settle(self, request: Request, rows: int, code: Code) -> None:
        request.rows_left -= rows
        if code is not None:
            request.rows_left = 0
            self._finish(request, "fallback")
        elif not request.rows_left:
            self._finish(request, "ok")

    def _score(self, batch: Batch) -> _Work:
        """The steps of `Predictor._score`, one server after the other."""
        replicas, version, tried, code = self.replicas, batch.version, set[str](), "UNAVAILABLE"
        for attempt in range(max(2, len(self._servers))):
            if replicas.pick(version, self.env.now, tried) is None:
                break
            if attempt and not replicas.take_retry(version.name):
                break
            address, found = yield from self._accepted(batch, tried)
            if found is None:
                return None
            code = found
            if address is None:
                break
            if replicas.holders(version) != [address] or code not in _RETRIED_ALONE:
                tried.add(address)
        return code

    def _accepted(self, batch: Batch, tried: Collection[str]) -> Generator[Event, Any, tuple[str | None, Code]]:
        """The steps of `Predictor._accepted_call`: waits for a full server, as long as time is left."""
        replicas, version, waits = self.replicas, batch.version, 0
        full, rejected = set[str](), False
        while (left := batch.deadline.at - (now := self.env.now)) > 0:
            address = replicas.pick(version, now, {*tried, *full})
            wait_s = replicas.wait_s(address, full, now, waits=waits, left=left)
            if wait_s:
                waits += 1
                if left - wait_s < _TIME_AFTER_WAIT * replicas.latency_s(version):
                    return None, "RESOURCE_EXHAUSTED"
                yield self.env.timeout(wait_s)
                full.clear()
            elif address is None:
                return None, "RESOURCE_EXHAUSTED" if rejected else "UNAVAILABLE"
            else:
                code = yield from self._sent(batch, address, left, again=rejected)
                if code != "RESOURCE_EXHAUSTED":
                    return address, code
                rejected = True
                full.add(address)
        return None, "RESOURCE_EXHAUSTED" if rejected else "DEADLINE_EXCEEDED"

    def _sent(self, batch: Batch, address: str, left: float, *, again: bool) -> _Work:
        """One call to one server, as `Predictor._call` records it."""
        replicas, version, start = self.replicas, batch.version, self.env.now
        active = replicas.started(version, address, rejected=again)
        reply = self._servers[address].call(batch.rows)
        timer = self.env.timeout(left).callbacks
        assert timer is not None
        timer.append(lambda _: _time_out(reply))
        code: Code = yield reply
        now = self.env.now
        if code == "RESOURCE_EXHAUSTED":
            replicas.rejected(active)
        elif code in (None, "DEADLINE_EXCEEDED"):
            replicas.replied(active, version, batch.rows, now - start, now)
        if code is None:
            replicas.succeeded(version, address, now - start)
        else:
            replicas.failed(version, address, code, now)
        replicas.ended(active)
        return code

    def _finish(self, request: Request, status: Status) -> None:
        """Answers a request."""
        if request.ticket is not None:
            self.queue.discard(request.ticket)
            self._pending.pop(request.ticket, None)
            request.ticket = None
        del self._in_flight[request]
        request.status, request.scored = status, self.env.now
        self._answer(request)
        if self._inbox or self._backlog:
            self._wake()


def _time_out(reply: Event) -> None:
    if not reply.triggered:
        reply.succeed("DEADLINE_EXCEEDED")
