"""Goodput under overload, on a virtual clock: the result does not depend on the machine."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.decisions import STALLS, Setting, simulate
from streamer.deadline import Deadline
from streamer.metrics import Metrics
from streamer.scoring.batching import BatchQueue, Ticket
from streamer.scoring.cache import ScoreCache
from streamer.scoring.dispatcher import Dispatcher
from streamer.scoring.scores import HitRatio, Scores
from streamer.settings.sections import BatchingSettings, CacheSettings
from streamer.types import F32, BatchInputs, ModelVersion
from tests.streamer.scoring.encoded import encoded, scores_of

FULL = Setting(load=100, seconds=8.0)
A = ModelVersion("ctr", 1)
CALL_S, ROWS = 0.1, 10


SETTINGS = BatchingSettings(max_batch_rows=ROWS, answer_margin_ms=0.0, max_concurrent_calls=1)


def filled_queue(requests: int, *, learnt: bool = True, queue: BatchQueue | None = None) -> BatchQueue:
    """A queue with this many requests of one full batch, due in 10 s; a call takes 100 ms."""
    queue = queue or BatchQueue(SETTINGS)
    if learnt:
        for _ in range(10):
            queue.latency(A).observe(ROWS, CALL_S)
    for tag in range(requests):
        queue.add(Ticket(A, encoded(tag, ROWS), np.arange(ROWS), Deadline(10.0, 0.0), 0.0))
    return queue


@pytest.mark.parametrize(
    ("requests", "calls", "due", "late"),
    [
        (0, 1, 0.01, False),  # the queued rows do not fill a batch
        (5, 1, 20.0, False),
        (5, 1, 10.0, False),  # behind requests of the same deadline, which take 0.5 s
        (9, 1, 10.0, True),
        (9, 3, 10.0, False),  # three calls at a time
        (9, 1, 9.9, False),  # more urgent than all of them
    ],
)
def test_a_request_that_would_leave_too_late_does_not_join_the_queue(
    requests: int, calls: int, due: float, late: bool
) -> None:
    now = 9.0
    assert filled_queue(requests).would_miss_deadline(A, Deadline(due, due - 1.1), now, calls=calls) is late


def test_an_old_request_does_not_join_a_long_queue() -> None:
    queue = filled_queue(2)
    assert not queue.would_miss_deadline(A, Deadline(4.0, -5.0), 1.2, calls=3)
    assert queue.would_miss_deadline(A, Deadline(4.0, -5.0), 1.4, calls=3)  # less than 0.3 of its 9 s are left


def test_no_request_is_rejected_before_the_first_reply() -> None:
    assert not filled_queue(20, learnt=False).would_miss_deadline(A, Deadline(10.0, 0.0), 9.99, calls=1)


@pytest.mark.parametrize(("known", "late"), [(0.0, True), (0.5, False)])
def test_no_request_is_rejected_while_the_hit_ratio_is_sufficient(known: float, late: bool) -> None:
    async def predict(_: ModelVersion, inputs: BatchInputs, __: Deadline) -> F32:
        return scores_of(inputs)

    dispatcher = Dispatcher(SETTINGS, predict, lambda work, name: work.close(), lambda: 9.0, Metrics())
    filled_queue(20, queue=dispatcher.queue)
    scores = Scores(ScoreCache(CacheSettings()), dispatcher, Metrics(), lambda: 9.0, HitRatio(0.1, known))
    assert scores.would_miss_deadline(A, Deadline(10.0, 9.0)) is late


def test_overload_does_not_reduce_goodput() -> None:
    at_full = simulate(FULL)
    over = simulate(replace(FULL, load=300))
    assert at_full.goodput >= 0.9 * FULL.capacity
    assert over.offered > 2.8 * FULL.capacity
    assert over.goodput >= 0.85 * at_full.goodput
    assert over.p99 <= FULL.budget_s * 1e3


def test_a_stalling_server_does_not_collapse_goodput() -> None:
    stalls, stall_s = STALLS["stalling"]
    stalling = replace(FULL, stalls=stalls, stall_s=stall_s)
    at_full = simulate(stalling)
    over = simulate(replace(stalling, load=300))
    assert over.goodput >= 0.85 * at_full.goodput


@pytest.mark.parametrize("load", [10, 50])
def test_at_low_load_every_request_is_answered_in_small_batches(load: int) -> None:
    found = simulate(replace(FULL, load=load))
    assert found.goodput == found.offered
    assert found.batch_rows < 450
