"""Requests become batches as in TensorFlow Serving's batch scheduler."""

import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.model_server.batch_queue import BatchQueue
from sandbox.model_server.batching_parameters import Batching
from sandbox.model_server.status import StatusError

OPTIONS = Batching(max_rows=8, timeout_us=2_000_000, max_enqueued_batches=2)
SPLIT = replace(OPTIONS, split_large=True, max_execution_rows=4)
LATER = 1e9


@dataclass(frozen=True, eq=False)
class Rows:
    rows: int


def sent(queue: BatchQueue[Rows], rows: int, now: float = 0.0) -> None:
    for size in queue.sizes(rows):
        queue.add(Rows(size), now)


def popped(queue: BatchQueue[Rows], now: float = LATER) -> list[int] | None:
    batch = queue.pop(now)
    return None if batch is None else [task.rows for task in batch]


def test_a_batch_leaves_after_its_timeout_or_when_it_is_full() -> None:
    queue = BatchQueue[Rows](OPTIONS)
    sent(queue, 3, now=10.0)
    sent(queue, 4, now=11.0)
    assert queue.ready_s == 12.0
    assert popped(queue, now=11.9) is None
    sent(queue, 1, now=11.9)
    assert popped(queue, now=11.9) == [3, 4, 1]
    assert queue.ready_s == math.inf


def test_a_task_that_does_not_fit_closes_the_batch() -> None:
    queue = BatchQueue[Rows](OPTIONS)
    sent(queue, 7)
    sent(queue, 2)
    assert popped(queue, now=0.0) == [7]
    assert popped(queue, now=0.0) is None


def test_a_task_without_rows_waits_for_one_with_rows() -> None:
    queue = BatchQueue[Rows](OPTIONS)
    sent(queue, 0, now=0.0)
    assert popped(queue) is None
    sent(queue, 1, now=50.0)
    assert popped(queue, now=50.0) == [0, 1]


def test_a_withdrawn_task_does_not_leave() -> None:
    queue = BatchQueue[Rows](OPTIONS)
    task = Rows(0)
    queue.add(task, 0.0)
    queue.remove(task)
    sent(queue, 2)
    assert popped(queue) == [2]


def test_a_large_request_fills_the_open_batch_and_further_ones() -> None:
    queue = BatchQueue[Rows](replace(SPLIT, max_enqueued_batches=3))
    sent(queue, 3)
    assert queue.sizes(8) == [1, 4, 3]
    sent(queue, 8)
    assert [popped(queue), popped(queue), popped(queue)] == [[3, 1], [4], [3]]


@pytest.mark.parametrize(
    ("options", "before", "rows", "code", "text"),
    [
        (OPTIONS, [], 9, "INVALID_ARGUMENT", "Task size 9 is larger than maximum input batch size 8"),
        (OPTIONS, [8, 8], 1, "UNAVAILABLE", "currently 2 batches enqueued and max_enqueued_batches is 2"),
        (SPLIT, [4, 3], 2, "UNAVAILABLE", "task size is 2 but scheduling capacity is only 1 (num_enqueued_batches=2, "),
        (SPLIT, [], 9, "INVALID_ARGUMENT", "Task size 9 is larger than maximum input batch size 8"),
    ],
)
def test_a_full_queue_and_a_large_request_are_rejected(
    options: Batching, before: list[int], rows: int, code: str, text: str
) -> None:
    queue = BatchQueue[Rows](options)
    for size in before:
        sent(queue, size)
    with pytest.raises(StatusError) as error:
        queue.sizes(rows)
    assert error.value.code.name == code
    assert text in error.value.message


@given(st.lists(st.integers(0, 8), max_size=20), st.booleans())
def test_every_row_leaves_once_in_order_and_no_batch_is_too_large(requests: list[int], is_split: bool) -> None:
    options = replace(SPLIT if is_split else OPTIONS, max_enqueued_batches=1000)
    queue = BatchQueue[Rows](options)
    tasks = []
    for rows in requests:
        for size in queue.sizes(rows):
            tasks.append(Rows(size))
            queue.add(tasks[-1], 0.0)
    left: list[Rows] = []
    while batch := queue.pop(LATER):
        assert 0 < sum(task.rows for task in batch) <= (4 if is_split else 8)
        left += batch
    assert left == tasks[: len(left)]
    assert not any(task.rows for task in tasks[len(left) :])
    assert sum(task.rows for task in left) == sum(requests)
