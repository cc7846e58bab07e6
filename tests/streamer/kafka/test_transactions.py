"""Producers of several partitions that begin together; what transactions promise is seen in tests/end_to_end."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
from aiokafka.errors import KafkaError

from streamer.kafka.offsets import OffsetTracker
from streamer.kafka.transactions import Transactions
from streamer.metrics import Metrics
from streamer.settings.sections import DeliverySettings, SinkSettings
from streamer.testing.virtual_loop import virtual
from streamer.types import Partition

SLOW: Partition = ("t", 0)
REFUSED: Partition = ("t", 1)


@dataclass
class Producer:
    """A producer that only starts and stops."""

    seconds: float
    error: KafkaError | None = None
    is_running: bool = False

    async def start(self) -> None:
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        self.is_running = True

    async def stop(self) -> None:
        self.is_running = False


@dataclass
class Producers:
    """All that were made, by partition. Those of one partition take long, the first of the other is refused."""

    made: dict[Partition, list[Producer]] = field(default_factory=lambda: {SLOW: [], REFUSED: []})

    def __call__(self, partition: Partition, _: int) -> Any:
        is_first = not self.made[partition]
        slow, refused = Producer(seconds=5.0), Producer(0.0, KafkaError("not now") if is_first else None)
        self.made[partition].append(slow if partition == SLOW else refused)
        return self.made[partition][-1]


@virtual
async def test_a_partition_that_is_refused_makes_no_second_producer_for_another() -> None:
    """The second one would fence the first, which nobody would stop."""

    async def committed(_: Partition) -> int | None:
        return None

    producers = Producers()
    transactions = Transactions(
        producers,
        committed,
        OffsetTracker(),
        group_id="g",
        sink=SinkSettings(),
        settings=DeliverySettings(),
        metrics=Metrics(),
        log=structlog.get_logger(),
    )
    with pytest.raises(KafkaError, match="not now"):
        await transactions.open([SLOW, REFUSED])
    await transactions.open([SLOW, REFUSED])
    assert {partition: len(made) for partition, made in producers.made.items()} == {SLOW: 1, REFUSED: 2}
    assert [made[-1].is_running for made in producers.made.values()] == [True, True]
    await transactions.stop()
    assert not any(producer.is_running for made in producers.made.values() for producer in made)
