"""Finds where a worker begins to read its partitions, and marks them as its own."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, TopicPartition
from structlog.typing import FilteringBoundLogger

from streamer.kafka import answered_ranges
from streamer.kafka.answered_ranges import Ranges
from streamer.kafka.backlog import Backlog
from streamer.kafka.first_position import Log, Position, position_of, without_commit
from streamer.kafka.log_evidence import Evidence
from streamer.kafka.opening_attempts import Failures, Written, each
from streamer.kafka.poison import Mark, PoisonDetector
from streamer.kafka.split_offsets import Start
from streamer.kafka.transactions import Transactions
from streamer.metrics import Metrics
from streamer.settings import Settings
from streamer.types import Partition

CommitsOf = Callable[[Iterable[Partition], float], Awaitable[Mapping[Partition, tuple[int, str]]]]
"""Returns the committed offsets of partitions with their metadata; partitions without a commit are absent.

It tries another broker if one does not answer within the seconds. Raises KafkaError."""
TopicNow = Callable[[float], Awaitable[int]]
"""Returns the fingerprint of the input topic's id; 0 if the brokers have no ids. The seconds as for `CommitsOf`."""


async def no_topic_id(_: float) -> int:
    """A `TopicNow` of brokers without topic ids."""
    return 0


_MESSAGES = {
    "added": "partition without a commit in a group that has others, read from its beginning",
    "deleted": "records were deleted before they were read",
    "truncated": "the log ends before its commit, read from its beginning",
    "recreated": "the topic was deleted and created again, read from its beginning",
}


@dataclass(frozen=True, slots=True)
class Opening:
    """Begins at a partition's last commit, whose metadata tells how its last worker ended."""

    consumer: AIOKafkaConsumer
    transactions: Transactions | None
    commits_of: CommitsOf
    topic_now: TopicNow
    backlog: Backlog
    detector: PoisonDetector
    settings: Settings
    metrics: Metrics
    log: FilteringBoundLogger
    evidence: dict[Partition, Evidence] = field(default_factory=dict)
    """Of the partitions that this process has tried to open, also earlier."""
    out_of_range: set[Partition] = field(default_factory=set)
    """Partitions whose commit the brokers have rejected as a position."""

    async def starts(
        self, new: Sequence[Partition], written: Written, each_s: float
    ) -> tuple[Mapping[Partition, Start], Failures]:
        """Where to begin in each partition that can be opened now.

        A commit has marked these partitions as `running`.

        Args:
            written: the commits of earlier attempts; this one's are added.
            each_s: the time for each partition's requests, in seconds.

        Returns:
            The starts, and the errors of the partitions that cannot be opened now.

        Raises:
            CommitFailedError, IllegalStateError: the partitions are lost.
            KafkaError, ConfigError, TimeoutError: the brokers cannot be reached or reject a request.
        """
        failed: dict[Partition, Exception] = {}
        if (transactions := self.transactions) is not None:
            # Before the commits are read: they are final only when the last worker is fenced.
            failed |= await each(new, lambda partition: transactions.open([partition]), each_s)
        # Before the offsets: if the topic is created again meanwhile, a later check finds another id.
        # A broker that hangs delays the partitions by a part of the attempt.
        try_s = each_s / 3
        topic = await self.topic_now(try_s)
        commits = await self.commits_of([partition for partition in new if partition not in failed], try_s)
        logs: dict[TopicPartition, Log] = {}

        async def find_log(partition: Partition) -> None:
            top = TopicPartition(*partition)
            ends = await self.consumer.end_offsets([top])
            firsts = await self.consumer.beginning_offsets([top])
            logs[top] = Log(firsts[top], ends[top], topic)

        failed |= await each([partition for partition in new if partition not in failed], find_log, each_s)
        if not logs:
            return {}, failed
        commits = {top: commits[top] for top in logs if top in commits}
        ends = {top: log.end for top, log in logs.items()}
        found = await self._positions(commits, logs, try_s)
        deaths: dict[str, int] = {}
        for top, position in found.items():
            # An attempt whose commit was stored without a reply would find its own mark and count a death.
            if self.settings.delivery.guarantee != "at_most_once" and written.get(top) != commits.get(top, ()):
                died = self.detector.open(top, position.mark, position.offset, ends[top])
                if died:
                    deaths[name_of(top)] = died
            self.evidence[top] = position.evidence
        if deaths:
            self.log.warning("workers died at the committed offsets of these partitions", deaths=deaths)
        opened = {top: (position.offset, position.answered) for top, position in found.items()}
        starts: dict[Partition, Start] = {}

        async def find_start(partition: Partition) -> None:
            of_it = {partition: opened[TopicPartition(*partition)]}
            starts.update(await self.backlog.starts(of_it, ends, self.detector.isolated))

        failed |= await each(opened, find_start, each_s)
        if not starts:
            return starts, failed
        # From here on the partitions are marked `running`: if this worker dies, its successor knows that it crashed.
        for top, start in starts.items():
            at = start.committed
            written[top] = at, self.metadata(top, self.detector.mark(top, at), start.answered)
        await self.consumer.commit({TopicPartition(*top): written[top] for top in starts})
        self._report(commits, {top: found[top] for top in logs if top in starts})
        self.backlog.report({top: opened[top] for top in logs if top in starts}, starts)
        self.out_of_range.difference_update(starts)
        if self.detector.isolated:
            self.log.warning(
                "workers died repeatedly at one offset of these partitions, records are processed one at a time",
                partitions=[name_of(partition) for partition in self.detector.isolated],
            )
        return starts, failed

    def metadata(self, partition: Partition, mark: Mark, answered: Ranges) -> str:
        """The metadata of a commit for an opened partition."""
        evidence = self.evidence.get(partition, Evidence())
        return f"{mark}{evidence}{answered_ranges.text(answered)}"

    async def _positions(
        self, commits: Mapping[Partition, tuple[int, str]], logs: Mapping[TopicPartition, Log], try_s: float
    ) -> dict[TopicPartition, Position]:
        topic = self.settings.source.topic
        count = 1 + max([*(self.consumer.partitions_for_topic(topic) or ()), *(top.partition for top in logs)])
        others: list[Evidence] = []
        if len(commits) < len(logs):
            of_all = await self.commits_of([(topic, number) for number in range(count)], try_s)
            others = [Evidence.parse(answered_ranges.parse(text)[0]) for _, text in of_all.values()]
        found = {}
        for top, log in logs.items():
            if top in commits:
                is_out_of_range = tuple(top) in self.out_of_range
                found[top] = position_of(*commits[top], log, is_out_of_range=is_out_of_range)
            else:
                # This process may have read it before its commit was deleted with its topic, or its commit has failed.
                known = [self.evidence[top]] if top in self.evidence else []
                start_at = self.settings.source.start_at
                found[top] = without_commit(top.partition, log, [*others, *known], count, start_at)
        return found

    def _report(self, commits: Mapping[Partition, tuple[int, str]], found: Mapping[TopicPartition, Position]) -> None:
        for top, (offset, _, answered, _, why) in found.items():
            if why not in _MESSAGES:
                continue
            details = {"committed": commits[top][0]} if top in commits else {}
            if why == "deleted":
                gone = answered_ranges.unanswered(answered, commits[top][0], offset)
                self.metrics.skipped.labels(why).inc(gone)
                details = {"first": commits[top][0], "last": offset - 1, "records": gone}
            elif why != "added":
                self.metrics.resets.labels(why).inc()
            say = self.log.info if why == "added" else self.log.warning
            say(_MESSAGES[why], partition=name_of(top), start=offset, **details)


def name_of(partition: Partition) -> str:
    """`topic/number`, for the log."""
    return "{}/{}".format(*partition)
