"""What is left of the answers under overload, on a virtual clock: the same on every machine."""

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


def crowded(requests: int, *, taught: bool = True, queue: BatchQueue | None = None) -> BatchQueue:
    """A queue that holds this many requests of one full batch each, due in 10 s; a call takes 100 ms."""
    queue = queue or BatchQueue(SETTINGS)
    if taught:
        for _ in range(10):
            queue.latency(A).observe(ROWS, CALL_S)
    for tag in range(requests):
        queue.add(Ticket(A, encoded(tag, ROWS), np.arange(ROWS), Deadline(10.0, 0.0), 0.0))
    return queue


@pytest.mark.parametrize(
    ("requests", "calls", "due", "hopeless"),
    [
        (0, 1, 0.01, False),  # what waits fills no batch
        (5, 1, 20.0, False),
        (5, 1, 10.0, False),  # as urgent as the others, behind them: due 0.7 s from now
        (9, 1, 10.0, True),
        (9, 3, 10.0, False),  # three calls at a time
        (9, 1, 9.9, False),  # more urgent than all of them
    ],
)
def test_whoever_would_come_too_late_behind_others_does_not_join(
    requests: int, calls: int, due: float, hopeless: bool
) -> None:
    now = 9.0
    assert crowded(requests).would_miss_deadline(A, Deadline(due, due - 1.1), now, calls=calls) is hopeless


def test_while_much_waits_an_old_request_does_not_join_either() -> None:
    queue = crowded(2)
    assert not queue.would_miss_deadline(A, Deadline(4.0, -5.0), 1.2, calls=3)
    assert queue.would_miss_deadline(A, Deadline(4.0, -5.0), 1.4, calls=3)  # more than 0.7 of its 9 s are gone


def test_nothing_is_hopeless_before_a_reply() -> None:
    assert not crowded(20, taught=False).would_miss_deadline(A, Deadline(10.0, 0.0), 9.99, calls=1)


@pytest.mark.parametrize(("known", "hopeless"), [(0.0, True), (0.5, False)])
def test_a_cache_that_knows_much_is_asked_all_the_same(known: float, hopeless: bool) -> None:
    async def predict(_: ModelVersion, inputs: BatchInputs, __: Deadline) -> F32:
        return scores_of(inputs)

    dispatcher = Dispatcher(SETTINGS, predict, lambda work, name: work.close(), lambda: 9.0, Metrics())
    crowded(20, queue=dispatcher.queue)
    scores = Scores(ScoreCache(CacheSettings()), dispatcher, Metrics(), lambda: 9.0, HitRatio(0.1, known))
    assert scores.would_miss_deadline(A, Deadline(10.0, 9.0)) is hopeless


def test_an_overloaded_scorer_answers_as_many_in_time_as_a_loaded_one() -> None:
    at_full = simulate(FULL)
    over = simulate(replace(FULL, load=300))
    assert at_full.goodput >= 0.9 * FULL.capacity
    assert over.offered > 2.8 * FULL.capacity
    assert over.goodput >= 0.85 * at_full.goodput
    assert over.p99 <= FULL.budget_s * 1e3


def test_a_server_that_stalls_costs_its_stalls_and_no_collapse() -> None:
    stalls, stall_s = STALLS["stalling"]
    stalling = replace(FULL, stalls=stalls, stall_s=stall_s)
    at_full = simulate(stalling)
    over = simulate(replace(stalling, load=300))
    assert over.goodput >= 0.85 * at_full.goodput


@pytest.mark.parametrize("load", [10, 50])
def test_with_time_to_spare_all_are_answered_by_small_batches(load: int) -> None:
    seen = simulate(replace(FULL, load=load))
    assert seen.goodput == seen.offered
    assert seen.batch_rows < 450
