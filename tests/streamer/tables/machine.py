"""Processes of one machine that share tables of a topic in memory, on the virtual clock."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import structlog
from aiokafka.errors import KafkaConnectionError

from streamer.ads import AdTable, Rows
from streamer.errors import TableLoadingError
from streamer.kafka.ads_log import AdsLog
from streamer.kafka.topic_ids import TopicNow
from streamer.metrics import Metrics
from streamer.tables.ad_tables import AdTables
from streamer.tables.follower import Follower
from streamer.tables.store import AdStore
from streamer.tables.table import Table
from streamer.tasks import TaskOwner
from streamer.testing.consumer_group import FakeConsumer, FakeGroup
from streamer.types import DeadLetter

EPOCH = 1_700_000_000.0
KEPT_S = 60.0


class PriceForm:
    """A `RowForm` of ads that have a price. `slices`: the CPU time of each call, `cost_s` for each ad."""

    def __init__(self, fingerprint: str = "a" * 32, cost_s: float = 0.0) -> None:
        self.fingerprint = fingerprint
        self.cost_s = cost_s
        self.slices: list[float] = []

    @property
    def used_s(self) -> float:
        return sum(self.slices)

    @property
    def dtype(self) -> np.dtype[np.void]:
        return np.dtype([("price", "<f8"), ("rest", "<u8", (8,))])

    def document(self, key: bytes | None, value: bytes) -> Mapping[str, Any]:
        try:
            found = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise ValueError("value: no JSON") from None
        if not isinstance(found, dict):
            raise ValueError("value: no object")  # noqa: TRY004  as the others
        return found

    def encode(self, documents: Sequence[Mapping[str, Any]]) -> Rows:
        self.slices.append(self.cost_s * len(documents))
        rows = np.zeros(len(documents), self.dtype)
        rows["price"] = [document["price"] for document in documents]
        return rows


class Machine:
    """The topic `ads` of two partitions, and the folder that the processes share."""

    def __init__(self, folder: Path, partitions: int = 2, max_bytes: int = 2**22) -> None:
        self.loop = asyncio.get_running_loop()
        self.folder = folder
        self.max_bytes = max_bytes
        self.group = FakeGroup("ads", partitions)
        self.is_away = False
        self.paused_s = 0.0

    def put(self, ad_id: str, price: float | None, partition: int | None = None) -> None:
        """Publishes an ad, or with None its deletion."""
        value = None if price is None else orjson.dumps({"price": price})
        self.produce(ad_id.encode(), value, partition)

    def produce(self, key: bytes | None, value: bytes | None, partition: int | None = None) -> None:
        number = sum(key or b"") % len(self.group.tops) if partition is None else partition
        self.group.produce(number, value, key=key)

    def wall(self) -> float:
        return EPOCH + self.loop.time() + self.paused_s

    async def topic_now(self, consumer: FakeConsumer, topic: str, try_s: float) -> TopicNow:
        if self.is_away or consumer.is_cut_off:
            raise KafkaConnectionError("no broker answers")
        return TopicNow(f"{self.group.topic_id:032}", {top.partition: True for top in self.group.tops})


@dataclass
class Process:
    """One process: its tables, the dead letters that it sends, and what it has read."""

    machine: Machine
    letters: list[DeadLetter] = field(default_factory=list)
    accepts: asyncio.Event = field(default_factory=asyncio.Event)
    metrics: Metrics = field(default_factory=Metrics)
    consumers: list[FakeConsumer] = field(default_factory=list)
    form: PriceForm = field(default_factory=PriceForm)
    is_cut_off: bool = False
    _task: "asyncio.Task[None] | None" = None

    def __post_init__(self) -> None:
        self.accepts.set()
        clock = self.machine.loop.time
        self.tables = AdTables(
            "ads", self._table, _nothing, structlog.get_logger(), clock, most=2, kept_s=KEPT_S, tasks=TaskOwner()
        )

    def _table(self, form: Any, spec: str) -> Table:
        machine, log, tables, clock = self.machine, structlog.get_logger(), self.metrics.tables, self.machine.loop.time
        ads = AdsLog("ads", self._consumer, machine.topic_now, tables, log, clock)
        follower = Follower("ads", form, ads, self._send, spec, tables, log, clock, lambda: form.used_s)

        def new_store(topic_id: str) -> AdStore:
            return AdStore(machine.folder, form, "ads", topic_id, machine.max_bytes, clock=clock, wall=machine.wall)

        return Table(ads, new_store, follower, spec, tables, log, clock, machine.wall)

    def _consumer(self) -> FakeConsumer:
        if self.is_cut_off:
            raise KafkaConnectionError("away")
        self.consumers.append(FakeConsumer(self.machine.group, is_member=False))
        return self.consumers[-1]

    def cut_off(self, *, is_cut_off: bool = True) -> None:
        """Its consumers get no answer, and no new one connects."""
        self.is_cut_off = is_cut_off
        for consumer in self.consumers:
            consumer.is_cut_off = is_cut_off

    async def _send(self, letter: DeadLetter) -> None:
        await self.accepts.wait()
        self.letters.append(letter)

    async def start(self) -> None:
        """Starts the process."""

        async def run() -> None:
            async with self.tables.running():
                await asyncio.Event().wait()

        self._task = asyncio.create_task(run())
        await asyncio.sleep(0)

    async def stop(self) -> None:
        """Ends the process; the locks are free."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    async def opened(self, form: PriceForm | None = None, within_s: float = 60.0) -> AdTable:
        """The table, as soon as it is loaded."""
        until = self.machine.loop.time() + within_s
        while True:
            try:
                return self.tables.open(form or self.form, "spec")
            except TableLoadingError as error:
                if "internal error" in error.detail or self.machine.loop.time() >= until:
                    raise
                await asyncio.sleep(0.05)

    @property
    def writes(self) -> bool:
        return self.count("writer", spec="spec") == 1

    def count(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"streamer_table_{name}", labels)


async def _nothing() -> None:
    pass


def prices(table: AdTable, *ad_ids: str) -> list[float | None]:
    """The prices of ads; None: unknown."""
    rows, known, _ = table.lookup(ad_ids)
    return [float(price) if is_known else None for price, is_known in zip(rows["price"], known, strict=True)]


def offsets(table: AdTable) -> tuple[int, ...]:
    return table.lookup(["a"]).position.offsets
