"""Publishes answers and dead letters in transactions, with the offsets of their records."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from streamer.kafka.dead_letters import publish_dead_letter
from streamer.kafka.partition_transactions import PartitionTransactions, TransactionContext, raise_first
from streamer.kafka.producers import Message
from streamer.tasks import set_within
from streamer.types import DeadLetter, Header, Origin, Partition


class Transactions:
    """The transactional producers of all open partitions.

    1. A consumer with `read_committed` reads the answer or dead letter of each record once.
    2. A worker whose producer is fenced commits nothing more.
    3. The transactions of all partitions run concurrently; the next ones start when the last of them has ended.
    """

    def __init__(self, context: TransactionContext) -> None:
        self._context = context
        for outcome in ("committed", "failed"):
            context.metrics.transactions.labels(outcome)  # the alert needs the 0 before the first failure
        self._partitions: dict[Partition, PartitionTransactions] = {}
        self._enough = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self.at_once = False
        """Whether a transaction is due as soon as one record is ready."""

    async def publish(self, origin: Origin, key: bytes | None, value: bytes, headers: Sequence[Header]) -> None:
        """Returns when a transaction with this answer is committed, or its partition is lost.

        Raises:
            MessageTooLargeError: the topic does not accept it.
        """
        await self._add(origin, Message(self._context.sink.topic, key, value, list(headers)))

    async def dead_letter(self, letter: DeadLetter) -> None:
        """Returns when a transaction with this letter is committed, or its partition is lost."""
        topic = self._context.sink.dead_letter_topic
        log = self._context.log
        await publish_dead_letter(letter, lambda *parts: self._add(letter.origin, Message(topic, *parts)), log)
        self._context.metrics.dead_lettered(letter.stage)

    async def open(self, partitions: Iterable[Partition]) -> None:
        """Starts a producer for each partition. Fences the last workers and ends their transactions.

        Raises:
            KafkaError, TimeoutError: the brokers cannot be reached or reject a producer.
        """
        # Beside the transactions of the other partitions: a start may have to wait for the end of the last worker's.
        new = [self._partitions.setdefault(p, PartitionTransactions(p, self._context)) for p in partitions]
        # Each start is awaited: one that went on alone would fence the producer of the next attempt.
        raise_first(await asyncio.gather(*(each.start() for each in new), return_exceptions=True))

    def commit_at_once(self) -> None:
        """Makes a transaction due now and, until `at_once` is reset, as soon as one record is ready."""
        self.at_once = True
        self._enough.set()

    async def wait_until_due(self) -> None:
        """Waits until a transaction is due: after the interval, or when enough records are ready."""
        await set_within(self._enough, self._context.settings.transaction_interval_ms / 1e3)

    async def commit(self, mark: Callable[[Partition, int], object]) -> None:
        """Commits one transaction for each partition with messages.

        A failure is counted and logged; the messages go into the next transaction. `mark` gives the metadata of a
        partition's committed offset.

        Raises:
            FencedError: another producer with a partition's id has started.
        """
        async with self._one_at_a_time:
            self._enough.clear()
            # Each transaction ends before the first error is raised, so that no error cancels another's transaction.
            running = [each.commit(mark) for each in self._partitions.values()]
            raise_first(await asyncio.gather(*running, return_exceptions=True))
            if self.at_once and any(each.has_next for each in self._partitions.values()):
                # More records than one transaction holds.
                self._enough.set()

    async def close(self, partitions: Iterable[Partition]) -> None:
        """Releases partitions; their next worker answers their uncommitted records again."""
        async with self._one_at_a_time:
            going = [each for p in partitions if (each := self._partitions.pop(p, None)) is not None]
            await asyncio.gather(*(each.close() for each in going))

    async def stop(self) -> None:
        """Releases all partitions."""
        await self.close(list(self._partitions))

    async def _add(self, origin: Origin, message: Message) -> None:
        partition = (origin.topic, origin.partition)
        transactions = self._partitions.get(partition)
        if transactions is None or not self._context.offsets.is_unacknowledged(partition, origin.offset):
            return
        acknowledged = transactions.add(origin.offset, message)
        ready = sum(len(each.ready) for each in self._partitions.values())
        if self.at_once or ready >= self._context.settings.max_transaction_records:
            self._enough.set()
        await asyncio.shield(acknowledged)
