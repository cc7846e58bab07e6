import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from streamer.deadline import Deadline
from streamer.errors import PredictError
from streamer.metrics import Metrics
from streamer.scoring.batching import Ticket
from streamer.scoring.dispatcher import NO_VALID_SCORE, Dispatcher, PendingScores
from streamer.settings.sections import BatchingSettings
from streamer.testing.virtual_loop import virtual
from streamer.types import F32, BatchInputs, EncodedRequest, ModelVersion
from tests.streamer.scoring.encoded import encoded, score_of, scores_of

A, B = ModelVersion("ctr", 1), ModelVersion("ctr", 2)


@dataclass
class Call:
    """One call of the model, which ends when the test answers it."""

    version: ModelVersion
    inputs: BatchInputs
    deadline: Deadline
    at: float
    reply: asyncio.Future[F32]

    def answer(self) -> None:
        self.reply.set_result(scores_of(self.inputs))


@dataclass
class Rig:
    """A dispatcher whose model answers after `model_s` or when the test calls `Call.answer`."""

    max_concurrent_calls: int = 1
    batch_rows: int = 1200
    max_batch_rows: int = 10
    max_wait_ms: float = 0.0
    max_queued_rows: int = 100
    margin_ms: float = 2.0
    model_s: float | None = None
    calls: list[Call] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        settings = BatchingSettings(
            max_concurrent_calls=self.max_concurrent_calls,
            batch_rows=self.batch_rows,
            max_batch_rows=self.max_batch_rows,
            max_wait_ms=self.max_wait_ms,
            max_queued_rows=self.max_queued_rows,
            answer_margin_ms=self.margin_ms,
        )
        self.dispatcher = Dispatcher(settings, self.predict, self.spawn, self.loop.time, Metrics())
        self.queue = self.dispatcher.queue

    async def predict(self, version: ModelVersion, inputs: BatchInputs, deadline: Deadline) -> F32:
        call = Call(version, inputs, deadline, self.loop.time(), self.loop.create_future())
        self.calls.append(call)
        if self.model_s is not None:
            self.loop.call_later(self.model_s, call.answer)
        return await call.reply

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> object:
        task = self.loop.create_task(work, name=name)
        self.tasks.append(task)
        return task

    def score(
        self, request: EncodedRequest, *, budget_ms: float = 1000.0, version: ModelVersion = A
    ) -> asyncio.Task[PendingScores]:
        now = self.loop.time()
        ticket = Ticket(version, request, np.arange(request.size), Deadline.after(now, budget_ms), now)
        return self.loop.create_task(self.dispatcher.score(ticket))


async def turns(count: int = 6) -> None:
    """Runs the callbacks that are ready, and those that they schedule."""
    for _ in range(count):
        await asyncio.sleep(0)


def complete(pending: PendingScores, request: EncodedRequest) -> bool:
    return bool(pending.done.all()) and np.array_equal(pending.ctr, score_of(request.candidate_ids))


@virtual
async def test_records_of_one_turn_share_a_batch() -> None:
    rig = Rig()
    requests = [encoded(tag, 3) for tag in (1, 2, 3)]
    waiters = [rig.score(r) for r in requests]
    await turns()
    assert [c.inputs.rows for c in rig.calls] == [9]
    rig.calls[0].answer()
    for waiter, request in zip(waiters, requests, strict=True):
        pending = await waiter
        assert complete(pending, request)
        assert pending.batch_rows == 9
        assert pending.reason is None
    assert rig.dispatcher.active_calls == 0
    assert rig.queue.queued_rows == 0


@virtual
async def test_an_idle_model_is_called_without_delay() -> None:
    rig = Rig(model_s=0.003)
    start = rig.loop.time()
    pending = await rig.score(encoded(1, 3))
    assert rig.calls[0].at == start == pending.left
    assert pending.replied == pytest.approx(start + 0.003)


@virtual
async def test_nothing_polls_during_a_call() -> None:
    """A 1 ms ticker would read the clock 20,000 times."""
    rig = Rig(max_concurrent_calls=1, model_s=10.0, max_wait_ms=5)
    reads = 0

    def clock() -> float:
        nonlocal reads
        reads += 1
        return rig.loop.time()

    rig.dispatcher.clock = clock
    start = rig.loop.time()
    await asyncio.gather(rig.score(encoded(1, 2), budget_ms=60_000), rig.score(encoded(2, 10), budget_ms=60_000))
    assert rig.loop.time() - start == pytest.approx(20.0, abs=0.01)
    assert reads < 20


@virtual
async def test_the_concurrency_limit_holds() -> None:
    rig = Rig(max_concurrent_calls=2, max_batch_rows=3)
    requests = [encoded(tag, 3) for tag in range(1, 6)]
    waiters = [rig.score(r) for r in requests]
    await turns()
    assert len(rig.calls) == rig.dispatcher.active_calls == 2
    rig.calls[1].answer()
    await turns()
    assert len(rig.calls) == 3
    assert rig.dispatcher.active_calls == 2
    for number in (0, 2, 3, 4):
        await turns()
        rig.calls[number].answer()
    results = await asyncio.gather(*waiters)
    assert all(complete(p, r) for p, r in zip(results, requests, strict=True))


@virtual
async def test_a_long_queue_is_shared_among_the_free_calls() -> None:
    rig = Rig(max_concurrent_calls=3, batch_rows=3, max_batch_rows=20)
    waiters = [rig.score(encoded(tag, 3)) for tag in range(9)]
    await turns()
    assert [call.inputs.rows for call in rig.calls] == [9, 9, 9]
    waiters += [rig.score(encoded(tag, 3)) for tag in range(9, 14)]
    await turns()
    rig.calls[1].answer()  # the only free call gets the whole queue
    await turns()
    assert [call.inputs.rows for call in rig.calls[3:]] == [15]
    for call in (rig.calls[0], *rig.calls[2:]):
        call.answer()
    assert all(pending.done.all() for pending in await asyncio.gather(*waiters))


@virtual
async def test_the_next_call_leaves_before_the_requests_of_a_reply_continue() -> None:
    """Otherwise the model server would wait until they are answered."""
    events: list[str] = []

    class Sending(Rig):
        async def predict(self, version: ModelVersion, inputs: BatchInputs, deadline: Deadline) -> F32:
            async def send() -> None:  # as gRPC: in a task of its own
                events.append("sent")

            self.spawn(send(), "send")
            return await super().predict(version, inputs, deadline)

    rig = Sending(max_batch_rows=3)
    waiters = [rig.score(encoded(tag, 3)) for tag in (1, 2, 3)]
    for waiter in waiters:
        waiter.add_done_callback(lambda _: events.append("settled"))
    for number in range(3):
        await turns()
        assert len(rig.calls) == number + 1
        rig.calls[number].answer()
    await turns(8)
    assert events == ["sent", "sent", "settled", "sent", "settled", "settled"]


@virtual
async def test_scores_that_have_arrived_count_if_the_deadline_passes_before_the_request_continues() -> None:
    pending = PendingScores(
        np.zeros(2, np.float32), np.zeros(2, np.bool_), 2, asyncio.get_running_loop().create_future()
    )
    pending.fill(np.arange(2), np.array([0.1, 0.2], np.float32), now=1.0)
    assert not pending.settled.done()
    pending.expire()
    assert pending.settled.done()
    assert pending.done.all()
    assert pending.reason is None


@virtual
async def test_scores_that_have_arrived_count_if_their_call_is_cancelled_while_the_next_one_starts() -> None:
    rig = Rig(max_batch_rows=3)
    first, second = encoded(1, 3), encoded(2, 3)
    waiter, other = rig.score(first), rig.score(second)
    await turns()
    rig.calls[0].answer()
    while len(rig.calls) < 2:
        await turns(1)
    assert not waiter.done()
    rig.tasks[0].cancel()
    assert complete(await waiter, first)
    assert rig.dispatcher.active_calls == 1
    rig.calls[1].answer()
    assert complete(await other, second)
    assert rig.dispatcher.active_calls == 0


@virtual
async def test_queued_rows_are_a_metric() -> None:
    rig = Rig()

    def queued() -> float | None:
        return rig.dispatcher.metrics.registry.get_sample_value("streamer_batching_queued_rows")

    first = rig.score(encoded(1, 3))
    await turns()
    others = [rig.score(encoded(tag, 4)) for tag in (2, 3)]
    await turns()
    assert queued() == 8
    others[0].cancel()
    await turns()
    assert queued() == 4
    rig.calls[0].answer()
    await turns()
    rig.calls[1].answer()
    await asyncio.gather(first, others[1])
    assert queued() == 0


@virtual
async def test_requests_that_arrive_during_the_calls_share_the_next_batch() -> None:
    rig = Rig(max_concurrent_calls=1)
    first = rig.score(encoded(1, 2))
    await turns()
    others = [rig.score(encoded(tag, 2)) for tag in (2, 3, 4)]
    await turns()
    assert len(rig.calls) == 1
    rig.calls[0].answer()
    await first
    await turns()
    assert [c.inputs.rows for c in rig.calls] == [2, 6]
    rig.calls[1].answer()
    await asyncio.gather(*others)


@virtual
async def test_a_large_request_is_split_and_joined_in_order() -> None:
    rig = Rig(max_concurrent_calls=3, max_batch_rows=4)
    request = encoded(1, 10)
    waiter = rig.score(request)
    await turns()
    assert [c.inputs.rows for c in rig.calls] == [4, 4, 2]
    for call in reversed(rig.calls):
        assert not waiter.done()
        call.answer()
        await turns()
    assert complete(await waiter, request)
    assert (await waiter).batch_rows == 4


@virtual
async def test_only_the_requested_rows_are_sent() -> None:
    rig = Rig(model_s=0.001)
    request = encoded(1, 6)
    some = np.array([1, 4])
    now = rig.loop.time()
    pending = await rig.dispatcher.score(Ticket(A, request, some, Deadline.after(now, 1000), now))
    assert rig.calls[0].inputs.candidate_ids[:, 0].tolist() == [10_001, 10_004]
    assert pending.done.tolist() == [False, True, False, False, True, False]
    assert np.array_equal(pending.ctr[some], score_of(request.candidate_ids)[some])


@virtual
async def test_an_error_fails_only_the_rows_of_its_batch() -> None:
    rig = Rig(max_concurrent_calls=1, max_batch_rows=4)
    request = encoded(1, 6)
    split, late = rig.score(request), rig.score(encoded(2, 1), budget_ms=2000)
    await turns()
    rig.calls[0].reply.set_exception(PredictError("UNAVAILABLE", "gone"))
    await turns()
    rig.calls[1].answer()
    pending = await split
    assert pending.done.tolist() == [False] * 4 + [True] * 2
    assert pending.reason == "UNAVAILABLE: gone"
    assert np.array_equal(pending.ctr[4:], score_of(request.candidate_ids)[4:])
    assert complete(await late, encoded(2, 1))
    assert (await late).reason is None
    assert rig.dispatcher.active_calls == 0


@virtual
async def test_a_row_without_a_valid_score_affects_no_other_row() -> None:
    rig = Rig(max_batch_rows=300, max_queued_rows=300)
    requests = [encoded(tag, 60) for tag in range(5)]
    waiters = [rig.score(r) for r in requests]
    await turns()
    [call] = rig.calls
    ctr = scores_of(call.inputs)
    ctr[130] = np.nan
    call.reply.set_result(ctr)
    pending = [await waiter for waiter in waiters]
    assert [bool(p.done.all()) for p in pending] == [True, True, False, True, True]
    assert np.flatnonzero(~pending[2].done).tolist() == [10]
    assert [p.reason for p in pending] == [None, None, NO_VALID_SCORE, None, None]


@virtual
async def test_each_version_has_its_own_calls() -> None:
    rig = Rig(max_concurrent_calls=2, model_s=0.001)
    one, two = encoded(1, 2), encoded(2, 2)
    results = await asyncio.gather(rig.score(one), rig.score(two, version=B))
    assert [c.version for c in rig.calls] == [A, B]
    assert complete(results[0], one)
    assert complete(results[1], two)


@virtual
async def test_a_cancelled_caller_does_not_affect_the_others_of_its_batch() -> None:
    rig = Rig()
    requests = [encoded(tag, 2) for tag in (1, 2, 3)]
    waiters = [rig.score(r) for r in requests]
    await turns()
    waiters[1].cancel()
    await turns()
    assert waiters[1].cancelled()
    rig.calls[0].answer()
    assert complete(await waiters[0], requests[0])
    assert complete(await waiters[2], requests[2])
    assert rig.dispatcher.active_calls == 0
    assert rig.queue.queued_rows == 0


@virtual
async def test_the_rows_of_a_cancelled_caller_do_not_leave() -> None:
    rig = Rig(max_concurrent_calls=1)
    first = rig.score(encoded(1, 2))
    await turns()
    second, third = rig.score(encoded(2, 2)), rig.score(encoded(3, 2))
    await turns()
    second.cancel()
    await turns()
    rig.calls[0].answer()
    await first
    await turns()
    assert rig.calls[1].inputs.candidate_ids[:, 0].tolist() == [30_000, 30_001]
    rig.calls[1].answer()
    await third


@virtual
async def test_a_request_returns_the_scores_that_arrived_a_margin_before_its_deadline() -> None:
    rig = Rig(max_concurrent_calls=2, max_batch_rows=4)
    start = rig.loop.time()
    request = encoded(1, 6)
    waiter = rig.score(request, budget_ms=30)
    await turns()
    rig.calls[0].answer()
    pending = await waiter
    assert rig.loop.time() == pytest.approx(start + 0.028)
    assert pending.done.tolist() == [True] * 4 + [False] * 2
    assert pending.reason == "the deadline passed before the reply"
    # The late reply has no effect.
    rig.calls[1].answer()
    await turns()
    assert pending.done.tolist() == [True] * 4 + [False] * 2
    assert pending.ctr[4:].tolist() == [0.0, 0.0]
    assert rig.dispatcher.active_calls == 0


@virtual
async def test_rows_of_an_expired_request_do_not_leave() -> None:
    rig = Rig(max_concurrent_calls=1)
    stuck = rig.score(encoded(1, 2), budget_ms=100)
    await turns()
    waiting = rig.score(encoded(2, 2), budget_ms=10)
    pending = await waiting
    assert not pending.done.any()
    assert pending.left == 0.0
    assert rig.queue.queued_rows == 0
    rig.calls[0].answer()
    await stuck
    await turns()
    assert len(rig.calls) == 1


@virtual
async def test_a_request_without_time_returns_at_once() -> None:
    rig = Rig()
    start = rig.loop.time()
    pending = await rig.score(encoded(1, 2), budget_ms=1)
    assert rig.loop.time() == start
    assert pending.reason == "the deadline passed before the reply"


@virtual
async def test_a_full_queue_rejects_a_request_at_once() -> None:
    rig = Rig(max_queued_rows=5)
    kept = rig.score(encoded(1, 5))
    rejected = rig.score(encoded(2, 1))
    start = rig.loop.time()
    pending = await rejected
    assert rig.loop.time() == start
    assert not pending.done.any()
    assert pending.reason is not None
    assert "max_queued_rows" in pending.reason
    await turns()
    rig.calls[0].answer()
    assert complete(await kept, encoded(1, 5))


@virtual
async def test_an_unexpected_exception_settles_the_requests_and_reaches_the_task_owner() -> None:
    rig = Rig()
    request = encoded(2, 2)
    waiters = [rig.score(encoded(1, 2)), rig.score(encoded(3, 1))]
    await turns()
    rig.calls[0].reply.set_exception(ZeroDivisionError("a bug"))
    for waiter in waiters:
        pending = await waiter
        assert not pending.done.any()
        assert pending.reason == "the call was cancelled or failed internally"
    assert isinstance(rig.tasks[0].exception(), ZeroDivisionError)
    following = rig.score(request)
    await turns()
    rig.calls[1].answer()
    assert complete(await following, request)


@virtual
async def test_after_the_model_became_slower_requests_are_scored_in_part() -> None:
    rig = Rig(max_concurrent_calls=3, max_batch_rows=120, max_queued_rows=4000)
    factor = 1

    async def predict(_: ModelVersion, inputs: BatchInputs, deadline: Deadline) -> F32:
        takes = factor * (0.002 + 0.00005 * inputs.rows)
        left = deadline.remaining(rig.loop.time())
        await asyncio.sleep(min(takes, left))
        if takes > left:
            raise PredictError("DEADLINE_EXCEEDED", "too slow")
        return scores_of(inputs)

    rig.dispatcher.predict = predict
    scored: list[bool] = []

    async def one(tag: int) -> None:
        pending = await rig.score(encoded(tag, 30), budget_ms=30.0)
        scored.append(bool(pending.done.any()))

    waiting: list[asyncio.Task[None]] = []
    for tag in range(1500):
        if tag == 500:
            factor = 8
        waiting.append(asyncio.create_task(one(tag)))
        await asyncio.sleep(0.004)
    await asyncio.gather(*waiting)
    assert all(scored[:400])
    assert sum(scored[-500:]) > 50, "there is time for a part of the rows"


@virtual
async def test_a_cancelled_call_settles_its_requests() -> None:
    rig = Rig()
    waiter = rig.score(encoded(1, 2))
    await turns()
    rig.tasks[0].cancel()
    assert (await waiter).reason == "the call was cancelled or failed internally"
    assert rig.tasks[0].cancelled()
    assert rig.dispatcher.active_calls == 0


@virtual
async def test_a_batch_waits_for_the_batch_delay() -> None:
    rig = Rig(max_concurrent_calls=2, max_wait_ms=5, model_s=0.001)
    start = rig.loop.time()
    first = rig.score(encoded(1, 2))
    rig.loop.call_later(0.002, lambda: waiters.append(rig.score(encoded(2, 2))))
    waiters: list[asyncio.Task[PendingScores]] = []
    await first
    assert [c.inputs.rows for c in rig.calls] == [4]
    assert rig.calls[0].at == pytest.approx(start + 0.005)
    await waiters[0]
    # A full batch has no delay.
    now = rig.loop.time()
    await rig.score(encoded(3, 10))
    assert rig.calls[1].at == now


@virtual
async def test_a_more_urgent_request_ends_the_batch_delay() -> None:
    rig = Rig(max_wait_ms=500, model_s=0.001)
    start = rig.loop.time()
    relaxed = rig.score(encoded(1, 2), budget_ms=10_000)
    await turns()
    urgent = rig.score(encoded(2, 2), budget_ms=30)
    await asyncio.gather(relaxed, urgent)
    # Before the first reply the expected latency is 0, so the batch leaves at the last moment.
    assert rig.calls[0].at == pytest.approx(start + 0.028)
    assert rig.calls[0].inputs.rows == 4


@virtual
async def test_draining_ends_the_batch_delay() -> None:
    rig = Rig(max_wait_ms=500, model_s=0.001)
    start = rig.loop.time()
    waiter = rig.score(encoded(1, 2))
    await turns()
    rig.dispatcher.drain()
    await waiter
    assert rig.calls[0].at == start


@virtual
async def test_many_requests_under_load_get_their_own_scores() -> None:
    rig = Rig(max_concurrent_calls=3, max_batch_rows=7, max_queued_rows=10_000, model_s=0.004)
    random = np.random.default_rng(3)
    requests = [encoded(tag, int(random.integers(1, 20)), user=tag % 5) for tag in range(1, 120)]
    waiters: list[asyncio.Task[PendingScores]] = []

    def start(request: EncodedRequest) -> None:
        waiters.append(rig.score(request, budget_ms=60_000))

    for i, request in enumerate(requests):
        rig.loop.call_later(i * 0.001, start, request)
    await asyncio.sleep(0.2)  # of the virtual clock
    results = await asyncio.gather(*waiters)
    assert all(complete(p, r) for p, r in zip(results, requests, strict=True))
    assert sum(c.inputs.rows for c in rig.calls) == sum(r.size for r in requests)
    assert max(c.inputs.rows for c in rig.calls) <= 7
