"""Commits the offsets of this worker's partitions by `delivery.guarantee`."""

import asyncio
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from structlog.typing import FilteringBoundLogger

from streamer.kafka.backlog import Backlog
from streamer.kafka.opening import CommitsOf, Opening, TopicNow
from streamer.kafka.opening_attempts import RETRY_S, Failures, OpeningAttempts, Written
from streamer.kafka.poison import Mark, PoisonDetector
from streamer.kafka.receipt import Admitted
from streamer.kafka.seeking import seek_back
from streamer.kafka.split_offsets import SplitOffsets
from streamer.kafka.transactions import Transactions
from streamer.metrics import Metrics
from streamer.settings import Settings
from streamer.types import Partition


@dataclass(slots=True, eq=False)
class Delivery:
    """Opens partitions at their last commit, commits for them, and releases them.

    1. `at_least_once` commits an offset when every record before it is acknowledged; `exactly_once` only in the
       transaction that holds the answers before it; `at_most_once` before the record is processed.
    2. The last commit of a partition says whether its worker released it in order, and how many workers have died at
       this offset.
    3. After `delivery.deaths_before_isolation` deaths at one offset the partition is isolated: its records are
       processed one at a time, each named in a commit first.
    """

    consumer: AIOKafkaConsumer
    offsets: SplitOffsets
    backlog: Backlog
    transactions: Transactions | None
    commits_of: CommitsOf
    topic_now: TopicNow
    settings: Settings
    metrics: Metrics
    log: FilteringBoundLogger
    _is_at_most_once: bool = field(init=False)
    _detector: PoisonDetector = field(init=False)
    _opening: Opening = field(init=False)
    openings: OpeningAttempts = field(init=False)
    _opened: set[Partition] = field(default_factory=set)
    _closing: set[Partition] = field(default_factory=set)
    _retries_stopped: bool = False
    # A delayed commit must not overwrite the mark of a later one.
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        settings, delivery = self.settings, self.settings.delivery
        self._is_at_most_once = delivery.guarantee == "at_most_once"
        self._detector = PoisonDetector(
            settings.offsets.max_uncommitted_records,
            delivery.deaths_before_isolation,
            delivery.deaths_before_dead_letter,
        )
        brokers = self.consumer, self.transactions, self.commits_of, self.topic_now, self.backlog
        self._opening = Opening(*brokers, self._detector, settings, self.metrics, self.log)
        # A group evicts a member that sends no heartbeat while it opens its partitions.
        times = settings.kafka.session_timeout_ms / 3e3, settings.kafka.request_timeout_ms / 1e3
        self.openings = OpeningAttempts(
            self._open,
            self._forget,
            lambda p: self._stops_retries([p]),
            *times,
            delivery.transaction_timeout_ms,
            self.metrics,
            self.log,
        )

    @property
    def is_isolating(self) -> bool:
        """Whether records are processed one at a time."""
        return bool(self._detector.isolated)

    @property
    def closing(self) -> Container[Partition]:
        """The partitions of which no more records are admitted."""
        return self._closing

    @property
    def suspects(self) -> Mapping[Partition, int]:
        """Partitions with deaths at their position, with the number of deaths."""
        commits = [(p, self.offsets.last_committed(p)) for p in self._opened]
        return {p: n for p, at in commits if at is not None and (n := self._detector.deaths(p, at))}

    @property
    def partitions(self) -> frozenset[Partition]:
        """The open partitions."""
        return frozenset(self._opened)

    async def open(self, partitions: Iterable[Partition]) -> None:
        """Opens assigned partitions; returns when each may be read, or is lost again."""
        await self.openings.finish(await self.begin_opening(partitions))

    async def begin_opening(self, partitions: Iterable[Partition]) -> frozenset[Partition]:
        """Opens the partitions that can be opened now; returns the others, for `openings`."""
        self._retries_stopped = False
        return await self.openings.begin(partitions)

    async def admit(self, records: Sequence[ConsumerRecord]) -> list[Admitted]:
        """The records to process, of those just read; the others are read again later."""
        ours = [record for record in records if self._is_unanswered(record)]
        if not ours:
            return []
        if self._is_at_most_once:
            after = {(record.topic, record.partition): (record.offset + 1, Mark()) for record in ours}
            if not await self._commit_with_retries(after):
                seek_back(self.consumer, ours)
                return []
        elif self.is_isolating:
            return await self._admit_isolated(ours)
        return [Admitted(record, is_suspect=False) for record in ours]

    def _is_unanswered(self, record: ConsumerRecord) -> bool:
        partition = (record.topic, record.partition)
        is_ours = partition in self._opened and partition not in self._closing
        return is_ours and not self.offsets.is_answered(partition, record.offset)

    async def _admit_isolated(self, records: Sequence[ConsumerRecord]) -> list[Admitted]:
        if len(records) > 1 or self.offsets.unacknowledged or self.offsets.committable():
            # They were read before the partition was isolated, or the last mark still names another record.
            seek_back(self.consumer, records)
            return []
        (record,) = records
        partition = (record.topic, record.partition)
        mark, is_suspect = self._detector.admit(partition, record.offset)
        self._isolation_changed()
        if mark is not None and not await self._commit_with_retries({partition: (record.offset, mark)}):
            return []
        return [Admitted(record, is_suspect)]

    async def end_isolation(self, found: Sequence[ConsumerRecord]) -> None:
        """Ends the isolation of partitions that have nothing left to read.

        `found`: the records just read.
        """
        if self.offsets.unacknowledged:
            return
        for partition in self._detector.isolated - {(record.topic, record.partition) for record in found}:
            position = await self.consumer.position(TopicPartition(*partition))
            start = self.offsets.last_committed(partition)
            if self._detector.end_isolation(partition, position) and start is not None:
                await self._commit_with_retries({partition: (start, Mark())})
        self._isolation_changed()

    async def wait_until_due(self) -> None:
        """Waits until the next commit is due."""
        if self.transactions is None:
            await asyncio.sleep(self.settings.offsets.commit_interval_ms / 1e3)
        else:
            await self.transactions.wait_until_due()

    async def commit(self) -> None:
        """Commits all offsets that are safe. A failure is logged; the next commit covers it.

        Raises:
            FencedError: with `exactly_once`, another worker has a partition that this one still processes.
        """
        if self.transactions is not None:
            await self.transactions.commit(self._metadata)
            return
        async with self._one_at_a_time:
            offsets = self.offsets.committable()
            if offsets:
                await self._commit({p: (offset, self._detector.mark(p, offset)) for p, offset in offsets.items()})

    def begin_close(self, partitions: Iterable[Partition]) -> None:
        """Admits no more records of these partitions, and ends the retries for them."""
        self._closing.update(partitions)
        if self.transactions is not None:
            self.transactions.commit_at_once()

    async def close(self, partitions: Iterable[Partition]) -> None:
        """Releases partitions after a commit that marks them `clean`; `end_close` ends it.

        Raises:
            FencedError: as `commit`.
        """
        closing = list(partitions)
        self.begin_close(closing)
        await self.openings.until_ended(closing)
        await self._release([partition for partition in closing if partition in self._opened])

    async def reopen(self, partition: Partition, *, is_out_of_range: bool) -> None:
        """Opens a partition again; `is_out_of_range`: a fetch was rejected.

        Raises FencedError as `commit`.
        """
        if partition in self._opened and partition not in self._closing:
            # It commits, also to a new topic: the evidence shows any next worker that the log is another one.
            await self._release([partition])
            if is_out_of_range:
                self._opening.out_of_range.add(partition)
            # Not `open`: that would begin retries again which the end of the worker has stopped.
            await self.openings.finish(await self.openings.begin([partition]))

    def is_of_another_topic(self, partition: Partition, topic: int) -> bool:
        """Whether a partition was opened before its topic was created with this fingerprint."""
        return partition in self._opened and self._opening.evidence[partition].is_of_another(topic)

    async def _release(self, going: Sequence[Partition]) -> None:
        """Commits for the last time, and forgets the partitions."""
        try:
            await self.commit()
            # A worker that releases a partition has not crashed, even if records are unacknowledged. But those may be
            # in a transaction with an unknown outcome, whose offset an earlier one must not overwrite.
            safe = [p for p in going if self.transactions is None or not self.offsets.unacknowledged_of([p])]
            last = {p: self.offsets.last_committed(p) for p in safe}
            marks = {p: (o, self._detector.mark(p, o, leaving=True)) for p, o in last.items() if o is not None}
            if marks and not self._is_at_most_once:
                async with self._one_at_a_time:
                    await self._commit(marks)
        finally:
            await self._forget(going)

    def end_close(self, partitions: Iterable[Partition]) -> None:
        """The partitions are released, and may come back."""
        self._closing.difference_update(partitions)
        self._isolation_changed()

    def stop_retries(self) -> None:
        """Ends the retries of `open`, and of commits for records that were just read."""
        self._retries_stopped = True

    async def _open(self, new: Sequence[Partition], written: Written, each_s: float) -> Failures:
        """One attempt; returns the partitions that cannot be opened now."""
        starts, failed = await self._opening.starts(new, written, each_s)
        for partition, start in starts.items():
            self.offsets.open(partition, start)
            self.consumer.seek(TopicPartition(*partition), start.live)
            self.consumer.resume(TopicPartition(*partition))
        self._opened.update(starts)
        self.backlog.opened.set()
        self._isolation_changed()
        return failed

    async def _commit(self, commits: Mapping[Partition, tuple[int, Mark]]) -> bool:
        # Before the commit: live records that are acknowledged meanwhile are not in it.
        answered = {partition: self.offsets.answered(partition) for partition in commits}
        text = self._opening.metadata
        with_metadata = {TopicPartition(*p): (at, text(p, mark, answered[p])) for p, (at, mark) in commits.items()}
        try:
            # Without a broker aiokafka retries without a limit, which would delay a worker that leaves.
            async with asyncio.timeout(self.settings.kafka.request_timeout_ms / 1e3):
                await self.consumer.commit(with_metadata)
        except (KafkaError, TimeoutError) as error:
            self.metrics.commit_failures.inc()
            self.log.warning("commit failed", error=repr(error))
            return False
        self.offsets.committed({partition: offset for partition, (offset, _) in commits.items()}, answered)
        self.metrics.commits.inc()
        return True

    async def _commit_with_retries(self, commits: Mapping[Partition, tuple[int, Mark]]) -> bool:
        """Whether the commit was stored before `stop_retries`."""
        while not self._stops_retries(commits):
            async with self._one_at_a_time:
                if await self._commit(commits):
                    return True
            await asyncio.sleep(RETRY_S)
        return False

    def _metadata(self, p: Partition, offset: int) -> str:
        return self._opening.metadata(p, self._detector.mark(p, offset), self.offsets.answered(p))

    def _stops_retries(self, partitions: Iterable[Partition]) -> bool:
        return self._retries_stopped or not self._closing.isdisjoint(partitions)

    async def _forget(self, going: Sequence[Partition]) -> None:
        self._opened.difference_update(going)
        # A later worker of the partition may commit behind an open transaction.
        self._opening.out_of_range.difference_update(going)
        if self.transactions is not None:
            await self.transactions.close(going)
        self.offsets.forget(going)
        for partition in going:
            self._detector.forget(partition)
        self._isolation_changed()

    def _isolation_changed(self) -> None:
        self.metrics.isolated_partitions.set(len(self._detector.isolated))
        if self.transactions is not None:
            self.transactions.at_once = self.is_isolating or bool(self._closing)
