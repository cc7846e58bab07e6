"""Producers of several partitions that start together; tests/end_to_end tests transactions."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import structlog
from aiokafka.errors import KafkaError

from streamer.errors import FencedError
from streamer.kafka.offsets import OffsetTracker
from streamer.kafka.partition_transactions import PartitionTransactions, TransactionContext
from streamer.kafka.producers import Message
from streamer.kafka.transactions import Transactions
from streamer.metrics import Metrics
from streamer.settings.sections import DeliverySettings, SinkSettings
from streamer.testing.virtual_loop import virtual
from streamer.types import Origin, Partition

SLOW: Partition = ("t", 0)
REJECTED: Partition = ("t", 1)


@dataclass
class Producer:
    """A producer whose transactions succeed."""

    seconds: float
    error: KafkaError | None = None
    is_running: bool = False
    transactions: int = 0

    async def begin_transaction(self) -> None:
        self.transactions += 1

    async def send(self, *_: object, **__: object) -> Awaitable[None]:
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        acknowledged.set_result(None)
        return acknowledged

    async def send_offsets_to_transaction(self, *_: object) -> None: ...

    async def commit_transaction(self) -> None: ...

    async def start(self) -> None:
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        self.is_running = True

    async def stop(self) -> None:
        self.is_running = False


@dataclass
class Producers:
    """All producers, by partition. `SLOW` starts in 5 s, the first producer of `REJECTED` fails."""

    made: dict[Partition, list[Producer]] = field(default_factory=lambda: {SLOW: [], REJECTED: []})

    def __call__(self, partition: Partition, _: int) -> Any:
        is_first = not self.made[partition]
        slow, rejected = Producer(seconds=5.0), Producer(0.0, KafkaError("not now") if is_first else None)
        self.made[partition].append(slow if partition == SLOW else rejected)
        return self.made[partition][-1]


def context_of(
    producers: Producers, committed: Callable[[Partition], Awaitable[int | None]], offsets: OffsetTracker
) -> TransactionContext:
    return TransactionContext(
        producers,
        committed,
        offsets,
        group_id="g",
        sink=SinkSettings(),
        settings=DeliverySettings(),
        metrics=Metrics(),
        log=structlog.get_logger(),
    )


@virtual
async def test_a_paused_worker_does_not_fence_its_successor() -> None:
    """A transaction times out during the pause; a new producer would fence that of the successor."""
    asked: list[Partition] = []

    async def committed(partition: Partition) -> int | None:
        asked.append(partition)
        return 9

    producers, offsets = Producers(), OffsetTracker()
    offsets.committed({REJECTED: 3})
    transactions = PartitionTransactions(REJECTED, context_of(producers, committed, offsets))
    transactions.add(3, Message("t", None, b"answer", []))
    with pytest.raises(FencedError):
        await transactions.commit(lambda *_: "mark")
    assert asked == [REJECTED]
    assert producers.made[REJECTED] == []


@virtual
async def test_a_partition_whose_producer_is_rejected_starts_no_second_one_for_another() -> None:
    """The second producer would fence the first, which nothing would stop."""

    async def committed(_: Partition) -> int | None:
        return None

    producers = Producers()
    context = context_of(producers, committed, OffsetTracker())
    transactions = Transactions(context)
    with pytest.raises(KafkaError, match="not now"):
        await transactions.open([SLOW, REJECTED])
    await transactions.open([SLOW, REJECTED])
    assert {partition: len(made) for partition, made in producers.made.items()} == {SLOW: 1, REJECTED: 2}
    assert [made[-1].is_running for made in producers.made.values()] == [True, True]
    await transactions.stop()
    assert not any(producer.is_running for made in producers.made.values() for producer in made)


@virtual
async def test_the_start_of_a_producer_does_not_delay_the_transactions_of_other_partitions() -> None:
    async def committed(_: Partition) -> int | None:
        return None

    transactions = Transactions(context_of(Producers(), committed, OffsetTracker()))
    opening = asyncio.create_task(transactions.open([SLOW]))
    await asyncio.sleep(0)
    async with asyncio.timeout(0.1):
        await transactions.commit(lambda *_: "mark")
    assert not opening.done()
    await opening
    await transactions.stop()


@virtual
async def test_a_release_does_not_wait_between_transactions() -> None:
    """More records wait than one transaction holds."""

    async def committed(_: Partition) -> int | None:
        return None

    producers, offsets = Producers(), OffsetTracker()
    context = replace(
        context_of(producers, committed, offsets),
        settings=DeliverySettings(max_transaction_records=2, transaction_interval_ms=600_000),
    )
    transactions = Transactions(context)
    await transactions.open([SLOW])
    offsets.committed({SLOW: 0})
    for number in range(6):
        offsets.received(SLOW, number)
    origins = [Origin(*SLOW, number) for number in range(6)]
    publishing = [asyncio.create_task(transactions.publish(origin, None, b"answer", [])) for origin in origins]
    await asyncio.sleep(0)
    transactions.commit_at_once()
    async with asyncio.timeout(1.0):
        while offsets.unacknowledged:
            await transactions.wait_until_due()
            await transactions.commit(lambda *_: "mark")
        await asyncio.gather(*publishing)
    assert producers.made[SLOW][0].transactions == 3
    await transactions.stop()
