"""Finds where a worker begins to read its partitions, and marks them as its own."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from structlog.typing import FilteringBoundLogger

from streamer.kafka import answered_ranges
from streamer.kafka.answered_ranges import Ranges
from streamer.kafka.backlog import Backlog
from streamer.kafka.poison import Mark, PoisonDetector
from streamer.kafka.split_offsets import Start
from streamer.kafka.transactions import Transactions
from streamer.settings import Settings
from streamer.types import Partition

CommitsOf = Callable[[Iterable[Partition]], Awaitable[Mapping[Partition, tuple[int, str]]]]
"""Returns the committed offsets of partitions with their metadata; partitions without a commit are absent."""


@dataclass(frozen=True, slots=True)
class Opening:
    """Begins at a partition's last commit, whose metadata tells how its last worker ended."""

    consumer: AIOKafkaConsumer
    transactions: Transactions | None
    commits_of: CommitsOf
    backlog: Backlog
    detector: PoisonDetector
    settings: Settings
    log: FilteringBoundLogger

    async def starts(
        self, new: Sequence[Partition], written: dict[Partition, tuple[int, str]]
    ) -> Mapping[Partition, Start]:
        """Where to begin in each partition; a commit has marked them as `running`.

        Args:
            written: the commits of earlier attempts; this one's are added.

        Raises:
            CommitFailedError, IllegalStateError: the partitions are lost.
            KafkaError, ConfigError, TimeoutError: the brokers cannot be reached or reject a request.
        """
        if self.transactions is not None:
            # Before the commits are read: they are final only when the last worker is fenced.
            await self.transactions.open(new)
        commits = await self.commits_of(new)
        tops = [TopicPartition(*partition) for partition in new]
        ends = await self.consumer.end_offsets(tops)
        firsts = ends if self.settings.source.start_at == "latest" else await self.consumer.beginning_offsets(tops)
        opened: dict[Partition, tuple[int, Ranges]] = {}
        deaths: dict[str, int] = {}
        for top in tops:
            start, metadata = commits.get(top, (firsts[top], str(Mark("clean"))))
            if start > ends[top]:
                self.log.warning(
                    "commit is beyond the end of its partition, source.start_at applies",
                    partition=name_of(top),
                    committed=start,
                    start=firsts[top],
                )
                start, metadata = firsts[top], str(Mark("clean"))
            mark, answered = answered_ranges.parse(metadata)
            # An attempt whose commit was stored without a reply would find its own mark and count a death.
            if self.settings.delivery.guarantee != "at_most_once" and written.get(top) != (start, metadata):
                died = self.detector.open(top, Mark.parse(mark), start, ends[top])
                if died:
                    deaths[name_of(top)] = died
            opened[top] = start, answered
        if deaths:
            self.log.warning("workers died at the committed offsets of these partitions", deaths=deaths)
        starts = await self.backlog.starts(opened, ends, self.detector.isolated)
        # From here on the partitions are marked `running`: if this worker dies, its successor knows that it crashed.
        for top in tops:
            at = starts[top].committed
            written[top] = at, metadata_of(self.detector.mark(top, at), starts[top].answered)
        await self.consumer.commit({top: written[top] for top in tops})
        self.backlog.report(opened, starts)
        if self.detector.isolated:
            self.log.warning(
                "workers died repeatedly at one offset of these partitions, records are processed one at a time",
                partitions=[name_of(partition) for partition in self.detector.isolated],
            )
        return starts


def name_of(partition: Partition) -> str:
    """`topic/number`, for the log."""
    return "{}/{}".format(*partition)


def metadata_of(mark: Mark, answered: Ranges) -> str:
    """The metadata of a commit."""
    return str(mark) + answered_ranges.text(answered)
