"""What is committed, and when: the delivery guarantee of the partitions that this worker has."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from structlog.typing import FilteringBoundLogger

from streamer.errors import ConfigError
from streamer.kafka.offsets import OffsetTracker
from streamer.kafka.poison import Caution, Mark
from streamer.kafka.source import Admitted
from streamer.kafka.transactions import Transactions
from streamer.metrics import Metrics
from streamer.settings import Settings
from streamer.types import Partition

_RETRY_S = 1.0

CommitsOf = Callable[[Iterable[Partition]], Awaitable[Mapping[Partition, tuple[int, str]]]]
"""Asks for the committed offsets of partitions, with their metadata; those without a commit are left out."""


class Delivery:
    """Begins partitions where the last commit says, commits for them, and leaves them.

    Promises, by `delivery.guarantee`: `at_least_once` commits an offset only behind what is done; `exactly_once` only
    in the transaction that holds the answers before it; `at_most_once` before the record is handed out. A partition's
    last commit says whether it was left in order; where it was not, its records are handed out one at a time, each
    named in a commit before.
    """

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        offsets: OffsetTracker,
        transactions: Transactions | None,
        commits_of: CommitsOf,
        settings: Settings,
        *,
        metrics: Metrics,
        log: FilteringBoundLogger,
    ) -> None:
        self._consumer = consumer
        self._offsets = offsets
        self._transactions = transactions
        self._commits_of = commits_of
        self._start_at = settings.source.start_at
        self._first = settings.delivery.guarantee == "at_most_once"
        self._interval_s = settings.offsets.commit_interval_ms / 1e3
        self._timeout_s = settings.kafka.request_timeout_ms / 1e3
        self._caution = Caution(settings.offsets.max_uncommitted_records)
        self._metrics = metrics
        self._log = log
        self._opened: set[Partition] = set()
        self._giving_up = False
        # A commit that is late must not take back the mark of a later one.
        self._one_at_a_time = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Delivery of {len(self._opened)} partitions, {len(self._caution)} with care>"

    @property
    def is_careful(self) -> bool:
        """Whether records go one at a time."""
        return bool(self._caution)

    @property
    def partitions(self) -> frozenset[Partition]:
        """Those that are worked on."""
        return frozenset(self._opened)

    async def open(self, partitions: Iterable[Partition]) -> None:
        """These partitions are ours from now on; returns when they may be read, or are lost again."""
        new = list(partitions)
        self._giving_up = False
        while new and not self._giving_up:
            try:
                await self._open(new)
            except (CommitFailedError, IllegalStateError) as error:
                self._log.warning("partitions are gone before they were opened", error=repr(error))
                await self._forget(new)
                return
            except (KafkaError, ConfigError, TimeoutError) as error:
                self._log.warning("partitions cannot be opened yet, tried again", error=repr(error))
                await asyncio.sleep(_RETRY_S)
            else:
                return

    async def admit(self, records: Sequence[ConsumerRecord]) -> list[Admitted]:
        """Those of the records just read that may be worked on; the others are read again, or somebody else's."""
        ours = [record for record in records if (record.topic, record.partition) in self._opened]
        if not ours:
            return []
        if self._first:
            after = {(record.topic, record.partition): record.offset + 1 for record in ours}
            taken = await self._commit_until_taken({p: (offset, Mark()) for p, offset in after.items()})
            return [Admitted(record, is_suspect=False) for record in ours] if taken else []
        if not self._caution:
            return [Admitted(record, is_suspect=False) for record in ours]
        if len(ours) > 1 or self._offsets.in_flight:
            # Read before the partition was known to need care.
            for record in reversed(ours):
                self._consumer.seek(TopicPartition(record.topic, record.partition), record.offset)
            return []
        (record,) = ours
        partition = (record.topic, record.partition)
        admission = self._caution.admit(partition, record.offset)
        self._care_changed()
        if admission.mark is not None and not await self._commit_until_taken(
            {partition: (record.offset, admission.mark)}
        ):
            return []
        return [Admitted(record, admission.is_suspect)]

    async def end_care(self) -> None:
        """Ends the care for partitions with nothing left to read, though their last record may not have been seen."""
        for partition in self._caution.partitions():
            position = await self._consumer.position(TopicPartition(*partition))
            start = self._offsets.last_committed(partition)
            if self._caution.reached(partition, position) and start is not None:
                await self._commit_until_taken({partition: (start, Mark())})
        self._care_changed()

    async def wait(self) -> None:
        """Waits until the next commit is due."""
        if self._transactions is None:
            await asyncio.sleep(self._interval_s)
        else:
            await self._transactions.wait()

    async def commit(self) -> None:
        """Commits what is safe. A refusal is counted and logged; the next commit covers it.

        Raises:
            FencedError: with `exactly_once`, another worker has a partition that we still work on.
        """
        if self._transactions is not None:
            await self._transactions.commit(lambda partition: str(self._caution.mark(partition)))
            return
        async with self._one_at_a_time:
            offsets = self._offsets.committable()
            if offsets:
                await self._commit({p: (offset, self._caution.mark(p)) for p, offset in offsets.items()})

    async def close(self, partitions: Iterable[Partition]) -> None:
        """These partitions are given up: what is done is committed, and that they were left in order, if they were.

        Raises:
            FencedError: as `commit`.
        """
        going = [partition for partition in partitions if partition in self._opened]
        try:
            await self.commit()
            # Who lives to give up a partition has not crashed, whatever it leaves behind. But what is in a transaction
            # whose end is not known must not be taken back by a commit of before.
            safe = [p for p in going if self._transactions is None or not self._offsets.in_flight_of([p])]
            left = {p: self._offsets.last_committed(p) for p in safe}
            marks = {p: (o, self._caution.mark(p, leaving=True)) for p, o in left.items() if o is not None}
            if marks and not self._first:
                async with self._one_at_a_time:
                    await self._commit(marks)
        finally:
            await self._forget(going)

    def give_up(self) -> None:
        """Ends the attempts to open partitions and to commit for records that were just read."""
        self._giving_up = True

    async def _open(self, new: Sequence[Partition]) -> None:
        if self._transactions is not None:
            # First of all: only when whoever had them is fenced do their commits stand still.
            await self._transactions.open(new)
        commits = await self._commits_of(new)
        tops = [TopicPartition(*partition) for partition in new]
        ends = await self._consumer.end_offsets(tops)
        firsts = ends if self._start_at == "latest" else await self._consumer.beginning_offsets(tops)
        begun: dict[Partition, tuple[int, Mark]] = {}
        for partition, top in zip(new, tops, strict=True):
            start, mark = firsts[top], Mark("clean")
            if partition in commits:
                committed, metadata = commits[partition]
                if committed <= ends[top]:
                    start, mark = committed, Mark.parse(metadata)
                else:
                    self._log.warning(
                        "commit lies behind the end of its partition, which is read anew",
                        partition="{}/{}".format(*partition),
                        committed=committed,
                        start=start,
                    )
            if not self._first:
                self._caution.open(partition, mark, start, ends[top])
            begun[partition] = start, self._caution.mark(partition)
        # From here on, whoever finds these partitions without a worker knows that it crashed.
        await self._consumer.commit(_commits(begun))
        self._offsets.committed({partition: start for partition, (start, _) in begun.items()})
        for partition, (start, _) in begun.items():
            self._consumer.seek(TopicPartition(*partition), start)
        self._opened.update(new)
        self._care_changed()
        if self._caution:
            self._log.warning(
                "the last worker of these partitions has crashed, records go one at a time for now",
                partitions=["{}/{}".format(*partition) for partition in self._caution.partitions()],
            )

    async def _commit(self, commits: Mapping[Partition, tuple[int, Mark]]) -> bool:
        try:
            # With no broker there the client would try for ever, and whoever wants to leave would wait for it.
            async with asyncio.timeout(self._timeout_s):
                await self._consumer.commit(_commits(commits))
        except (KafkaError, TimeoutError) as error:
            self._metrics.commit_failures.inc()
            self._log.warning("commit refused", error=repr(error))
            return False
        self._offsets.committed({partition: offset for partition, (offset, _) in commits.items()})
        self._metrics.commits.inc()
        return True

    async def _commit_until_taken(self, commits: Mapping[Partition, tuple[int, Mark]]) -> bool:
        while not self._giving_up:
            async with self._one_at_a_time:
                if await self._commit(commits):
                    return True
            await asyncio.sleep(_RETRY_S)
        return False

    async def _forget(self, going: Sequence[Partition]) -> None:
        self._opened.difference_update(going)
        if self._transactions is not None:
            await self._transactions.close(going)
        self._offsets.forget(going)
        for partition in going:
            self._caution.forget(partition)
        self._care_changed()

    def _care_changed(self) -> None:
        self._metrics.isolated_partitions.set(len(self._caution))
        if self._transactions is not None:
            self._transactions.at_once = bool(self._caution)


def _commits(commits: Mapping[Partition, tuple[int, Mark]]) -> dict[TopicPartition, tuple[int, str]]:
    return {TopicPartition(*partition): (offset, str(mark)) for partition, (offset, mark) in commits.items()}
