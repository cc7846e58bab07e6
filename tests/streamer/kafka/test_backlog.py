"""Where the reading of a partition begins."""

import pytest
import structlog
from aiokafka import TopicPartition

from streamer.kafka.answered_ranges import Range, Ranges
from streamer.kafka.backlog import MIN_GAP, Backlog, start_of
from streamer.kafka.split_offsets import Start
from streamer.metrics import Metrics
from streamer.settings import Settings
from streamer.testing.consumer_group import FakeConsumer, FakeGroup
from streamer.types import Partition

WALL_S = 1000.0
FAR = 2 * MIN_GAP
P = ("t", 0)


@pytest.mark.parametrize(
    ("answered", "fresh", "start"),
    [
        ((), 5, Start(5, 5)),
        ((), 2, Start(5, 5)),  # the commit is newer
        ((), 5 + MIN_GAP, Start(5, 5)),
        ((), 6 + MIN_GAP, Start(5, 6 + MIN_GAP)),
        ((Range(20, 30),), 5 + FAR, Start(5, 5 + FAR, (Range(20, 30),))),
        ((Range(20, 99),), 50, Start(5, 99, (Range(20, 99),))),  # an earlier worker has read further
        ((Range(20, 30),), 5, Start(5, 30, (Range(20, 30),))),
        ((Range(5, 30),), 5, Start(30, 30)),  # the commit came before the end of its gap was known
        ((Range(5, 30), Range(40, 50)), 30, Start(30, 50, (Range(40, 50),))),
        ((Range(1, 3),), 5, Start(5, 5)),
    ],
)
def test_a_gap_begins_at_the_commit_and_ends_at_the_first_live_record(
    answered: Ranges, fresh: int, start: Start
) -> None:
    assert start_of(5, answered, fresh, skips=False, splits=True) == start


@pytest.mark.parametrize(
    ("answered", "fresh", "splits", "start"),
    [
        ((), 5 + FAR, False, Start(5 + FAR, 5 + FAR)),
        ((), 5 + MIN_GAP, True, Start(5, 5)),
        ((Range(20, 30),), 5 + FAR, True, Start(5 + FAR, 5 + FAR)),
        ((Range(20, 99),), 50, True, Start(99, 99)),
    ],
)
def test_a_skipped_gap_is_committed(answered: Ranges, fresh: int, splits: bool, start: Start) -> None:
    assert start_of(5, answered, fresh, skips=True, splits=splits) == start


def test_one_reader_begins_at_the_commit() -> None:
    assert start_of(5, (Range(7, 9),), 5 + FAR, skips=False, splits=False) == Start(5, 5, (Range(7, 9),))


def backlog_of(group: FakeGroup, guarantee: str = "at_least_once", **source: object) -> Backlog:
    settings = Settings.model_validate(
        {"source": {"topic": "t", "budget_ms": 200.0, **source}, "delivery": {"guarantee": guarantee}}
    )
    return Backlog(FakeConsumer(group), settings, Metrics(), structlog.get_logger(), lambda: WALL_S)


def group_of(*ages_ms: int | None) -> FakeGroup:
    """A partition with records of these ages; None: its producer set no timestamp."""
    group = FakeGroup("t", 1)
    for age_ms in ages_ms:
        group.produce(0, b"r", -1 if age_ms is None else round(WALL_S * 1e3) - age_ms)
    return group


async def started(backlog: Backlog, group: FakeGroup, *, isolated: tuple[Partition, ...] = ()) -> Start:
    ends = {top: len(log) for top, log in group.logs.items()}
    commits: dict[Partition, tuple[int, Ranges]] = {TopicPartition(*P): (0, ())}
    return (await backlog.starts(commits, ends, isolated))[P]


OLD = [60_000] * FAR


@pytest.mark.parametrize(
    ("ages_ms", "live"),
    [
        ([*OLD, 201, 200, 100], FAR + 1),
        (OLD, FAR),
        ([*OLD, *[None] * 5], FAR + 5),  # no timestamp is in the budget; the second reader scores them
        ([*OLD, 100, *OLD], FAR),  # an old record behind a live one is read with the live ones
        ([100, *OLD], 0),
        ([-5_000], 0),
    ],
)
async def test_live_records_begin_at_the_first_one_that_has_budget_left(ages_ms: list[int | None], live: int) -> None:
    group = group_of(*ages_ms)
    assert await started(backlog_of(group), group) == Start(0, live)


@pytest.mark.parametrize(
    ("guarantee", "deadline_from"),
    [("exactly_once", "record"), ("at_most_once", "record"), ("at_least_once", "arrival")],
)
async def test_partitions_without_a_gap(guarantee: str, deadline_from: str) -> None:
    group = group_of(*OLD, 100)
    assert await started(backlog_of(group, guarantee, deadline_from=deadline_from), group) == Start(0, 0)


@pytest.mark.parametrize("backlog", ["answer", "skip"])
async def test_an_isolated_partition_is_read_from_its_commit_on(backlog: str) -> None:
    group = group_of(*OLD, 100)
    assert await started(backlog_of(group, backlog=backlog), group, isolated=(P,)) == Start(0, 0)


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once", "at_most_once"])
async def test_skipped_records_are_counted(guarantee: str) -> None:
    group = group_of(*OLD, 100)
    backlog = backlog_of(group, guarantee, backlog="skip")
    start = await started(backlog, group)
    assert start == Start(FAR, FAR)
    backlog.report({P: (0, ())}, {P: start})
    skipped = backlog.metrics.registry.get_sample_value("streamer_source_skipped_records_total", {"reason": "backlog"})
    assert skipped == FAR
