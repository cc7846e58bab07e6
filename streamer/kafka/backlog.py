"""Decides where the reading of a partition begins after an outage."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, TopicPartition
from structlog.typing import FilteringBoundLogger

from streamer.kafka.answered_ranges import Ranges, above, first_unanswered, unanswered
from streamer.kafka.split_offsets import Start
from streamer.metrics import Metrics
from streamer.settings import Settings
from streamer.types import Partition

MIN_GAP = 32
"""Fewer old records make no gap: one reader answers them `expired` in less time than a second one needs to connect."""


@dataclass(slots=True, eq=False)
class Backlog:
    """Splits a partition into live records and a gap of records without budget behind them.

    1. Every record from the committed offset on is live or in the gap, unless `source.backlog: skip` passes over it.
    2. Only `at_least_once` has gaps: the other guarantees keep one prefix of each partition.
    3. An isolated partition has no gap, and none of its records is skipped.
    """

    consumer: AIOKafkaConsumer
    settings: Settings
    metrics: Metrics
    log: FilteringBoundLogger
    wall_clock: Callable[[], float]
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when partitions were opened, which may have gaps."""

    async def starts(
        self,
        commits: Mapping[Partition, tuple[int, Ranges]],
        ends: Mapping[Partition, int],
        isolated: Collection[Partition],
    ) -> dict[Partition, Start]:
        """Where partitions begin.

        `commits`: committed offsets with the ranges of answered records above them; `ends`: end offsets.

        Raises:
            KafkaError, TimeoutError: the brokers cannot answer now.
        """
        free = [partition for partition in commits if partition not in isolated]
        fresh = await self._fresh(free, ends)
        starts: dict[Partition, Start] = {}
        for partition, (committed, answered) in commits.items():
            starts[partition] = start_of(
                committed,
                answered,
                fresh.get(partition, committed),
                skips=self.settings.source.backlog == "skip",
                splits=self.settings.delivery.guarantee == "at_least_once" and partition not in isolated,
            )
        return starts

    def report(self, commits: Mapping[Partition, tuple[int, Ranges]], starts: Mapping[Partition, Start]) -> None:
        """Counts and logs what the starts, now committed, pass over and split."""
        for partition, (committed, answered) in commits.items():
            start, name = starts[partition], "{}/{}".format(*partition)
            if skipped := unanswered(answered, committed, start.committed):
                self.metrics.skipped.labels("backlog").inc(skipped)
                self.log.warning("backlog skipped, its requests get no answer", partition=name, records=skipped)
            if left := unanswered(start.answered, start.committed, start.live):
                self.log.warning("backlog, answered beside the live requests", partition=name, records=left)

    async def _fresh(self, partitions: Collection[Partition], ends: Mapping[Partition, int]) -> dict[Partition, int]:
        """The first offset of each partition with a timestamp within the budget, or its end."""
        source = self.settings.source
        is_split = source.backlog == "skip" or self.settings.delivery.guarantee == "at_least_once"
        if source.deadline_from == "arrival" or not is_split or not partitions:
            return {}
        oldest_ms = round(max(0.0, self.wall_clock() * 1e3 - source.budget_ms))
        tops = [TopicPartition(*partition) for partition in partitions]
        found = await self.consumer.offsets_for_times(dict.fromkeys(tops, oldest_ms))
        return {top: ends[top] if found[top] is None else found[top].offset for top in tops}


def start_of(committed: int, answered: Ranges, fresh: int, *, skips: bool, splits: bool) -> Start:
    """Where a partition begins.

    `fresh`: the first offset whose request has budget left. `skips`: the records before it are passed over. `splits`:
    they may be a gap.
    """
    live = fresh if fresh - committed > MIN_GAP else committed
    if skips:
        committed = live
    committed = first_unanswered(answered, committed)
    answered = above(answered, committed)
    if not splits:
        return Start(committed, committed, answered)
    # A live record is never in a range, so that the ranges concern only the reader of the gap.
    return Start(committed, max(live, committed, answered[-1].end if answered else 0), answered)
