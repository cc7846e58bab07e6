from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from streamer.deadline import Deadline
from streamer.errors import QueueFullError
from streamer.scoring.batching import BatchQueue, Ticket
from streamer.settings.sections import BatchingSettings
from streamer.types import ModelVersion
from tests.streamer.scoring.encoded import encoded

A, B = ModelVersion("ctr", 1), ModelVersion("ctr", 2)


def queue_of(
    max_batch_rows: int = 10,
    max_wait_ms: float = 0.0,
    max_queued_rows: int = 100,
    answer_margin_ms: float = 2.0,
    batch_rows: int = 1200,
) -> BatchQueue:
    return BatchQueue(
        BatchingSettings(
            batch_rows=batch_rows,
            max_batch_rows=max_batch_rows,
            max_wait_ms=max_wait_ms,
            max_queued_rows=max_queued_rows,
            answer_margin_ms=answer_margin_ms,
        )
    )


def ticket(
    tag: int, rows: int, *, due: float = 1.0, added: float = 0.0, version: ModelVersion = A, user: int | None = None
) -> Ticket:
    return Ticket(version, encoded(tag, rows, user=user), np.arange(rows), Deadline(due, 0.0), added)


def next_rows(queue: BatchQueue, now: float = 0.0, calls: int = 1) -> list[tuple[int, int]]:
    """The tag and the number of each row in the next batch."""
    batch = queue.next_batch(now, calls=calls)
    assert batch is not None
    ids = batch.inputs().candidate_ids[:, 0]
    assert len(ids) == batch.rows
    return [divmod(int(i), 10_000) for i in ids]


def test_a_batch_leaves_at_once_if_a_call_may_start() -> None:
    queue = queue_of()
    queue.add(ticket(1, 3))
    batch = queue.next_batch(0.0, calls=1)
    assert batch is not None
    assert (batch.rows, batch.reason, batch.version) == (3, "slot_free", A)
    assert queue.next_batch(0.0, calls=1) is None
    assert queue.next_wakeup() is None


def test_the_most_urgent_request_leaves_first() -> None:
    queue = queue_of(max_batch_rows=4)
    for tag, due in ((1, 3.0), (2, 1.0), (3, 2.0)):
        queue.add(ticket(tag, 2, due=due))
    assert next_rows(queue) == [(2, 0), (2, 1), (3, 0), (3, 1)]
    assert next_rows(queue) == [(1, 0), (1, 1)]


def test_requests_with_equal_deadlines_leave_in_arrival_order() -> None:
    queue = queue_of(max_batch_rows=2)
    for tag in (5, 3, 4):
        queue.add(ticket(tag, 2))
    assert [next_rows(queue)[0][0] for _ in range(3)] == [5, 3, 4]


def test_a_batch_is_counted_in_rows_and_a_large_request_is_split() -> None:
    queue = queue_of(max_batch_rows=4)
    queue.add(ticket(1, 9))
    queue.add(ticket(2, 1, due=2.0))
    assert next_rows(queue) == [(1, 0), (1, 1), (1, 2), (1, 3)]
    assert next_rows(queue) == [(1, 4), (1, 5), (1, 6), (1, 7)]
    assert next_rows(queue) == [(1, 8), (2, 0)]


def test_a_long_queue_leaves_in_larger_batches_of_whole_requests() -> None:
    queue = queue_of(batch_rows=4, max_batch_rows=9)
    for tag in range(10):
        queue.add(ticket(tag, 2))
    assert len(next_rows(queue, calls=3)) == 6  # a third of 20
    assert len(next_rows(queue, calls=1)) == 8  # at most 9
    assert len(next_rows(queue, calls=2)) == 4  # the share is 3, a full batch is 4
    assert len(next_rows(queue)) == 2


def test_a_request_larger_than_a_full_batch_is_shared_among_the_calls() -> None:
    queue = queue_of(batch_rows=4, max_batch_rows=8)
    queue.add(ticket(1, 15))
    assert [len(next_rows(queue, calls=calls)) for calls in (3, 2, 1)] == [5, 5, 5]


def test_a_batch_holds_one_version_and_every_version_leaves() -> None:
    queue = queue_of()
    for tag, version in ((1, A), (2, B), (3, A), (4, B)):
        queue.add(ticket(tag, 1, due=float(tag), version=version))
    assert [tag for tag, _ in next_rows(queue)] == [1, 3]
    assert [tag for tag, _ in next_rows(queue)] == [2, 4]


def test_the_deadline_of_a_batch_is_the_latest_of_its_members() -> None:
    queue = queue_of()
    for tag, due in ((1, 1.0), (2, 5.0), (3, 3.0)):
        queue.add(ticket(tag, 1, due=due))
    batch = queue.next_batch(0.0, calls=1)
    assert batch is not None
    assert batch.deadline.at == 5.0


def test_a_full_queue_rejects_rows_and_does_not_grow() -> None:
    queue = queue_of(max_queued_rows=20)
    queue.add(ticket(1, 15))
    with pytest.raises(QueueFullError, match="15 rows are queued"):
        queue.add(ticket(2, 6))
    assert queue.queued_rows == 15
    queue.add(ticket(3, 5))
    next_rows(queue)
    queue.add(ticket(4, 10))
    assert queue.queued_rows == 20


@pytest.mark.parametrize(
    ("rows", "now", "reason"),
    [
        (3, 0.0, None),
        (3, 0.0049, None),
        (3, 0.005, "slot_free"),
        (10, 0.0, "full"),
        (12, 0.0, "full"),
    ],
)
def test_the_batch_delay(rows: int, now: float, reason: str | None) -> None:
    queue = queue_of(max_wait_ms=5)
    queue.add(ticket(1, rows))
    batch = queue.next_batch(now, calls=1)
    assert (batch.reason if batch else None) == reason


def test_the_batch_delay_ends_before_the_deadline() -> None:
    queue = queue_of(max_wait_ms=500, answer_margin_ms=2)
    for _ in range(50):
        queue.latency(A).observe(5, 0.010)
    queue.add(ticket(1, 5, due=0.1))
    assert queue.next_wakeup() == pytest.approx(0.1 - 0.002 - 0.015)
    assert queue.next_batch(0.0829, calls=1) is None
    batch = queue.next_batch(0.0831, calls=1)
    assert batch is not None
    assert batch.reason == "deadline"


def test_draining_ends_the_batch_delay() -> None:
    queue = queue_of(max_wait_ms=500)
    queue.add(ticket(1, 5))
    queue.drain()
    batch = queue.next_batch(0.0, calls=1)
    assert batch is not None
    assert batch.reason == "drain"


def test_a_discarded_request_leaves_no_trace() -> None:
    queue = queue_of(max_wait_ms=5)
    first, second, third = (ticket(tag, 2, due=float(tag), added=tag / 1e3) for tag in (2, 1, 3))
    for one in (first, second, third):
        queue.add(one)
    queue.discard(first)
    queue.discard(first)
    assert queue.queued_rows == 4
    assert queue.next_wakeup() == pytest.approx(0.001 + 0.005)  # the second ticket's, which came after the first one
    queue.discard(second)
    assert queue.next_wakeup() == pytest.approx(0.003 + 0.005)
    assert next_rows(queue, 1.0) == [(3, 0), (3, 1)]
    queue.discard(third)
    assert queue.queued_rows == 0
    assert repr(queue) == "<BatchQueue 0 rows of 0 requests>"


def test_a_discarded_request_does_not_shorten_another_batch_delay() -> None:
    queue = queue_of(max_wait_ms=5)
    early, urgent = ticket(1, 2, due=9.0, added=0.0), ticket(2, 2, due=8.0, added=0.004)
    queue.add(early)
    queue.add(urgent)
    queue.discard(early)
    assert queue.next_wakeup() == pytest.approx(0.009)
    assert queue.next_batch(0.006, calls=1) is None


@settings(max_examples=50)
@given(st.data())
def test_inputs_equal_the_naive_construction(data: st.DataObject) -> None:
    queue = queue_of(max_batch_rows=12)
    for tag in range(data.draw(st.integers(1, 5))):
        size = data.draw(st.integers(1, 6))
        some = sorted(data.draw(st.sets(st.integers(0, size - 1), min_size=1)))
        one = ticket(tag + 1, size, user=data.draw(st.integers(0, 2)))
        one.rows = np.array(some, dtype=np.intp)
        queue.add(one)
    while (batch := queue.next_batch(0.0, calls=1)) is not None:
        inputs = batch.inputs()
        at = 0
        for part, rows in batch.parts:
            for row in rows:
                e = part.encoded
                assert np.array_equal(inputs.candidate_ids[at], e.candidate_ids[row])
                assert np.array_equal(inputs.candidate_floats[at], e.candidate_floats[row])
                assert np.array_equal(inputs.pair_ids[at], e.pair_ids[row])
                request = inputs.row_to_request[at]
                assert np.array_equal(inputs.request_ids[request], e.request_ids[0])
                assert np.array_equal(inputs.request_floats[request], e.request_floats[0])
                at += 1
        assert inputs.rows == batch.rows == at
        users = [row.tobytes() for row in inputs.request_ids]
        assert len(set(users)) == len(users)
        assert inputs.row_to_request.dtype == np.int32


def test_whole_requests_share_the_memory_of_their_batch() -> None:
    queue = queue_of(max_batch_rows=7)
    tickets = [ticket(1, 3), ticket(2, 2), ticket(3, 4)]
    for one in tickets:
        queue.add(one)
    before = [one.encoded.candidate_ids.copy() for one in tickets]
    batch = queue.next_batch(0.0, calls=1)
    assert batch is not None
    inputs = batch.inputs()
    shares = [np.shares_memory(one.encoded.candidate_ids, inputs.candidate_ids) for one in tickets]
    assert shares == [True, True, False]  # two rows of the last one are left
    for one, ids in zip(tickets, before, strict=True):
        assert np.array_equal(one.encoded.candidate_ids, ids)
        assert one.encoded.candidate_numbers is None


class BatchQueueMachine(RuleBasedStateMachine):
    """Adds, sends, discards, sheds and drains in any order; a rule advances the clock."""

    @initialize(
        batch_rows=st.integers(1, 12),
        max_batch_rows=st.integers(1, 30),
        max_wait_ms=st.sampled_from([0.0, 5.0, 50.0]),
        max_queued_rows=st.integers(5, 60),
    )
    def start(self, batch_rows: int, max_batch_rows: int, max_wait_ms: float, max_queued_rows: int) -> None:
        self.full_batch, self.max_batch = min(batch_rows, max_batch_rows), max_batch_rows
        self.max_wait, self.max_queued = max_wait_ms / 1e3, max_queued_rows
        self.queue = queue_of(max_batch_rows, max_wait_ms, max_queued_rows, batch_rows=batch_rows)
        self.now = 0.0
        self.tickets: list[Ticket] = []
        self.left: dict[Ticket, list[int]] = {}
        self.discarded: set[Ticket] = set()
        self.draining = False

    def queued(self) -> list[Ticket]:
        """The tickets with queued rows, the most urgent first."""
        live = [t for t in self.tickets if t not in self.discarded and len(self.left[t]) < len(t.rows)]
        return sorted(live, key=lambda t: (t.deadline.at, self.tickets.index(t)))

    def queued_rows(self) -> int:
        return sum(len(t.rows) - len(self.left[t]) for t in self.queued())

    @rule(rows=st.integers(1, 20), due=st.sampled_from([0.01, 0.03, 0.2]), version=st.sampled_from([A, A, B]))
    def add(self, rows: int, due: float, version: ModelVersion) -> None:
        one = ticket(len(self.tickets), rows, due=self.now + due, added=self.now, version=version)
        fits = self.queued_rows() + rows <= self.max_queued
        try:
            self.queue.add(one)
        except QueueFullError:
            assert not fits
        else:
            assert fits
            self.tickets.append(one)
            self.left[one] = []

    @rule(which=st.integers(0, 30))
    def discard(self, which: int) -> None:
        if self.tickets:
            one = self.tickets[which % len(self.tickets)]
            self.queue.discard(one)
            self.discarded.add(one)

    @rule()
    def drain(self) -> None:
        self.queue.drain()
        self.draining = True

    @rule(seconds=st.sampled_from([0.001, 0.005, 0.02]))
    def advance_clock(self, seconds: float) -> None:
        self.now += seconds

    @rule(rows=st.integers(1, 12), seconds=st.sampled_from([0.001, 0.004]))
    def reply(self, rows: int, seconds: float) -> None:
        self.queue.latency(A).observe(rows, seconds)

    @rule(calls=st.integers(1, 3))
    def next_batch(self, calls: int) -> None:
        before, rows_before = self.queued(), self.queued_rows()
        reason = self.reason()
        batch = self.queue.next_batch(self.now, calls=calls)
        assert (batch.reason if batch else None) == reason
        if batch is None:
            return
        limit = self.limit(before[0], min(self.max_batch, max(self.full_batch, rows_before // calls)))
        assert 0 < batch.rows <= limit
        assert batch.rows == sum(len(rows) for _, rows in batch.parts)
        assert {t.version for t, _ in batch.parts} == {batch.version} == {before[0].version}
        assert [t for t, _ in batch.parts] == [t for t in before if t.version == batch.version][: len(batch.parts)]
        assert batch.deadline == max(t.deadline for t, _ in batch.parts)
        for one, rows in batch.parts:
            assert one not in self.discarded
            self.left[one] += rows.tolist()
            assert self.left[one] == list(range(len(self.left[one])))
        # No more rows fit, or no rows of its version are queued. Beyond a full batch, only whole requests fit.
        rest = [len(t.rows) - len(self.left[t]) for t in self.queued() if t.version == batch.version]
        assert batch.rows == limit or not rest or self.full_batch <= batch.rows > limit - rest[0]
        if rest and batch.rows > self.full_batch:
            whole = sum(len(rows) for one, rows in batch.parts if len(self.left[one]) == len(one.rows))
            assert batch.rows == whole or batch.rows - len(batch.parts[-1][1]) < self.full_batch

    def reason(self) -> Literal["slot_free", "full", "deadline", "drain"] | None:
        live = self.queued()
        if not live:
            return None
        if self.draining:
            return "drain"
        if self.queued_rows() >= self.full_batch:
            return "full"
        if self.now >= min(t.added for t in live) + self.max_wait:
            return "slot_free"
        return "deadline" if self.now >= self.urgent_at() else None

    def urgent_at(self) -> float:
        first = self.queued()[0]
        ahead = self.queue.latency(first.version).estimate(min(self.queued_rows(), self.full_batch))
        return first.deadline.at - 0.002 - 1.5 * ahead

    def seconds_for(self, one: Ticket) -> float:
        return (one.deadline.at - self.now - 0.002) / 1.2

    def limit(self, first: Ticket, most: int) -> int:
        fit = self.queue.latency(first.version).rows_within(self.seconds_for(first))
        return max(1, int(min(most, fit)))

    @rule(idle=st.booleans())
    def shed(self, idle: bool) -> None:
        """The most urgent tickets are shed until the next one can be answered in time."""
        before = self.queued()
        expected = []
        for one in before:
            self.discarded.add(one)
            rest = self.queued_rows()
            self.discarded.discard(one)
            model = self.queue.latency(one.version)
            needed = self.full_batch if self.queued_rows() > self.full_batch else 1
            if model.rows_within(self.seconds_for(one)) >= needed or (idle and not rest):
                break
            expected.append((one, list(range(len(self.left[one]), len(one.rows)))))
            self.discarded.add(one)
        assert [(one, rows.tolist()) for one, rows in self.queue.shed(self.now, idle=idle)] == expected

    @rule()
    def jump_to_the_wakeup(self) -> None:
        """At the wake-up the delayed rows leave: no wake-up is missed, and none is useless."""
        wakeup = self.queue.next_wakeup()
        if self.reason() is None and self.queued():
            assert wakeup is not None
            assert wakeup > self.now
            self.now = wakeup
            assert self.reason() in {"slot_free", "deadline"}
            self.next_batch(calls=1)
        elif not self.queued():
            assert wakeup is None

    @invariant()
    def queued_rows_is_exact(self) -> None:
        assert self.queue.queued_rows == self.queued_rows()


BatchQueueMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestBatchQueue = BatchQueueMachine.TestCase


# Rows without time


def learnt(queue: BatchQueue, fixed: float = 0.001, per_row: float = 0.001) -> None:
    """Teaches the queue the latency of version A."""
    for rows in (2, 10) * 20:
        queue.latency(A).observe(rows, fixed + per_row * rows)


def test_a_batch_holds_the_rows_that_its_most_urgent_request_has_time_for() -> None:
    queue = queue_of()
    learnt(queue)
    queue.add(ticket(1, 3, due=0.002 + 1.2 * 0.0051))
    queue.add(ticket(2, 4, due=1.0))
    assert queue.shed(0.0, idle=False) == []
    assert next_rows(queue) == [(1, 0), (1, 1), (1, 2), (2, 0)]
    assert next_rows(queue) == [(2, 1), (2, 2), (2, 3)]


def test_without_time_for_all_rows_those_of_highest_priority_leave() -> None:
    queue = queue_of()
    learnt(queue)
    one = ticket(1, 6, due=0.002 + 1.2 * 0.0041)
    one.priority = lambda: np.array([0.1, 0.5, 0.2, 0.9, 0.3, 0.4], np.float32)
    queue.add(one)
    assert next_rows(queue) == [(1, 1), (1, 3), (1, 5)]
    [(late, rows)] = queue.shed(0.004, idle=False)
    assert late is one
    assert rows.tolist() == [0, 2, 4]
    assert queue.queued_rows == 0


def test_with_more_than_one_batch_queued_requests_without_time_for_a_full_batch_are_shed() -> None:
    queue = queue_of(max_batch_rows=10)
    learnt(queue)
    tight, easy = 0.002 + 1.2 * 0.006, 0.002 + 1.2 * 0.012
    for tag, due in ((1, tight), (2, easy), (3, easy)):
        queue.add(ticket(tag, 5, due=due))
    assert [t.encoded.ad_ids[0] for t, _ in queue.shed(0.0, idle=False)] == ["1-0"]
    assert len(next_rows(queue)) == 10


def test_a_single_request_with_little_time_is_not_shed() -> None:
    queue = queue_of()
    learnt(queue)
    queue.add(ticket(1, 5, due=0.002 + 1.2 * 0.0061))
    assert queue.shed(0.0, idle=False) == []
    assert len(next_rows(queue)) == 5


def test_an_idle_model_is_called_even_if_its_latency_seems_too_high() -> None:
    queue = queue_of()
    learnt(queue, fixed=10.0)
    queue.add(ticket(1, 5, due=0.03))
    queue.add(ticket(2, 5, due=0.04))
    assert [t.encoded.ad_ids[0] for t, _ in queue.shed(0.0, idle=True)] == ["1-0"]
    assert next_rows(queue) == [(2, 0)]
    assert [t.encoded.ad_ids[0] for t, _ in queue.shed(0.0, idle=False)] == ["2-0"]


def test_each_version_has_its_own_latency_model() -> None:
    queue = queue_of()
    learnt(queue, fixed=10.0)
    queue.add(ticket(1, 2, due=0.03, version=B))
    assert queue.shed(0.0, idle=False) == []
    for version in range(10, 74):
        queue.latency(ModelVersion("ctr", version))
    assert queue.latency(A).estimate(10) == 0.0, "only the most recent versions are kept"


def test_the_latency_models_of_many_models_are_kept() -> None:
    queue = queue_of()
    models = [ModelVersion(f"model-{i}", 1) for i in range(30)]
    for _ in range(2):
        for i, version in enumerate(models, 1):
            queue.latency(version).observe(100, i / 100)
    assert [queue.latency(version).estimate(100) for version in models] == pytest.approx(
        [i / 100 for i in range(1, 31)]
    )
