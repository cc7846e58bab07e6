"""Follows the topic: applies its changes to a table while this process has the lock."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from structlog.typing import FilteringBoundLogger

from streamer.ads import AdRecord, AdsBatch, AdsLog, LogBounds, LostPosition, RowForm
from streamer.errors import ConfigError, UnreachableError
from streamer.metrics import TableMetrics
from streamer.tables.changes import Changes
from streamer.tables.layout import MAX_PARTITIONS
from streamer.tables.pace import Pace
from streamer.tables.store import MAX_AGE_S
from streamer.tables.writer import Writer
from streamer.types import DeadLetter, Origin

_RETRY_S = 1.0
# After an outage of this length the lock is free for a process that reaches the brokers, and for a new store.
_GIVE_UP_S = 600.0
# A full table waits until its old rows leave their quarantine.
_FULL_S = 0.1
# While nothing changes, the store learns in these intervals that it is current.
_CONFIRM_S = 5.0
_CURRENT_S = 10.0
_PROGRESS_S = 10.0

_T = TypeVar("_T")
SendLetter = Callable[[DeadLetter], Awaitable[None]]


@dataclass(slots=True, eq=False)
class Follower:
    """Applies the changes of the topic to a store.

    1. Between two awaits at most one slice of about 1.2 ms is read, encoded or applied; of 10 ms, while no version is
       scored in this process. The topic is not read meanwhile, so at most one batch is in memory.
    2. A change is applied with the positions behind it, and after the dead letters of its batch are acknowledged.
    3. A bad record changes nothing: the former row of its ad stays.

    Attributes:
        spec: names the table in metrics.
        clock: monotonic seconds.
        cpu_clock: seconds of CPU that this thread has used: another process that takes the core makes no slice longer.
        is_alone: whether no version is scored in this process.
        on_turn: called between batches.
        is_current: whether it has read what the topic had when it began.
        failure: why the topic cannot be read, or its changes not be applied, now; None if they can.
    """

    topic: str
    form: RowForm
    ads: AdsLog
    send: SendLetter
    spec: str
    metrics: TableMetrics
    log: FilteringBoundLogger
    clock: Callable[[], float]
    cpu_clock: Callable[[], float]
    is_alone: Callable[[], bool] = lambda: False
    on_turn: Callable[[], None] = lambda: None
    is_current: bool = False
    failure: str | None = None
    _pace: Pace = field(default_factory=Pace)
    # The known end of each partition, and the last time that it was read to it, monotonic seconds.
    _ends: dict[int, int] = field(default_factory=dict)
    _at_end: dict[int, float] = field(default_factory=dict)
    _read_at: float = 0.0
    _positions: list[int] = field(default_factory=list)
    _applied_at: float = 0.0
    _progress_at: float = 0.0

    async def run(self, writer: Writer, topic_id: str) -> LostPosition | None:
        """Follows the topic until its positions are lost (not None).

        Or until no broker has answered for long, or the table is so old that a new one is needed.
        """
        for _ in writer.recover():
            await asyncio.sleep(0)
        self.log.info("writes the table of ads", ads=writer.state.count, positions=list(writer.state.positions))
        try:
            self._read_at = self.clock()
            while self._silent_s() < _GIVE_UP_S and not _is_old(writer):
                try:
                    bounds = await self.ads.open(dict(enumerate(writer.state.positions)), topic_id)
                    lost = bounds if isinstance(bounds, LostPosition) else await self._follow(writer, bounds)
                except UnreachableError as error:
                    self.failure = str(error)
                    self.log.warning("topic of ads cannot be read, retried", error=self.failure)
                    await self._pause(_RETRY_S)
                else:
                    return lost
        finally:
            self.is_current, self.failure = False, None
            self._at_end.clear()
            for gauge in (self.metrics.lag, self.metrics.lag_seconds):
                gauge.remove(self.spec)  # another process may know them
            await self.ads.close()
        return None

    async def _follow(self, writer: Writer, bounds: LogBounds) -> LostPosition:
        self._check(len(bounds.starts))
        self._ends, self._at_end = dict(bounds.ends), dict.fromkeys(bounds.starts, self.clock())
        if not writer.state.positions:
            self._begin(writer, bounds)
        self._pace.is_alone = self.is_alone()
        self._positions = list(writer.state.positions)
        while True:
            if not self.is_alone():
                self._pace.serve()
            batch = await self.ads.read(min(self._pace.rows, writer.max_changes))
            if isinstance(batch, LostPosition):
                return batch
            self.failure = self.ads.outage()
            # A read is empty both at the end of the topic and while no broker answers; only a reply tells ends.
            if batch.ends:
                self._read_at = self.clock()
            elif self._silent_s() >= _GIVE_UP_S:
                raise UnreachableError(f"topic {self.topic}: no broker has answered for {_GIVE_UP_S:.0f} s")
            applied_s = await self._apply(writer, batch)
            self._measure(batch)
            self.is_current |= all(batch.offsets[number] >= end for number, end in bounds.ends.items())
            if not writer.state.is_ready:
                self._load(writer)
            await self._pause(self._pace.pause_s(applied_s))

    def _begin(self, writer: Writer, bounds: LogBounds) -> None:
        starts = _by_number(bounds.starts)
        targets = [max(start, bounds.ends.get(number, start)) for number, start in enumerate(starts)]
        writer.begin_load(starts, targets)
        self.log.info("table of ads loads", offsets=sum(targets) - sum(starts), partitions=len(starts))
        self._progress_at = self.clock() + _PROGRESS_S

    def _check(self, partitions: int) -> None:
        if partitions > MAX_PARTITIONS:
            raise ConfigError(
                f"ads.topic: {self.topic} has {partitions} partitions, at most {MAX_PARTITIONS} are possible"
            )

    def _load(self, writer: Writer) -> None:
        """Ends the first load, or tells of its progress."""
        state, now = writer.state, self.clock()
        if state.loaded_share >= 1:
            writer.mark_ready()
            self.log.info("table of ads is loaded", ads=state.count, bytes=state.used_bytes)
        elif now >= self._progress_at:
            self._progress_at = now + _PROGRESS_S
            self.log.info("table of ads loads", share=round(state.loaded_share, 3), ads=state.count)

    async def _apply(self, writer: Writer, batch: AdsBatch) -> float:
        """Applies a batch; returns the seconds of its last slice."""
        positions = _by_number(batch.offsets)
        self._check(len(positions))
        is_due = self._behind_s() < _CURRENT_S and self.clock() - self._applied_at >= _CONFIRM_S
        if positions == self._positions and not is_due:
            return 0.0
        slices: list[float] = []
        changes = self._slice(lambda: Changes.of(batch.records, self.form), slices)
        await self._pause(self._pace.pause_s(slices[-1]))
        ids, rows = self._slice(lambda: changes.encoded(self.form), slices)
        await self._pause(self._pace.pause_s(slices[-1]))
        await self._reject(changes.bad)
        deleted = changes.deleted
        if _is_old(writer):  # the machine was paused, or the dead letters had to wait
            hours = MAX_AGE_S / 3600
            raise UnreachableError(f"topic {self.topic}: the table is older than {hours:g} h and is loaded again")
        await self._reserve(writer, len(ids))
        while (rejected := self._slice(lambda: writer.apply(ids, rows, deleted, positions), slices)) is None:
            await self._pause(_FULL_S)
        self._positions, self._applied_at = positions, self.clock()
        if batch.records:
            self._pace.took(len(batch.records), max(slices))
            self.metrics.changes.labels("stored").inc(len(ids) - len(rejected))
            self.metrics.changes.labels("deleted").inc(len(deleted))
        await self._reject([(changes.records[ids[place]], writer.full_reason) for place in rejected])
        return slices[-1]

    async def _reserve(self, writer: Writer, count: int) -> None:
        began = self.cpu_clock()
        for _ in writer.reserve(count):
            await self._pause(self._pace.pause_s(self.cpu_clock() - began))
            began = self.cpu_clock()

    def _slice(self, work: Callable[[], _T], slices: list[float]) -> _T:
        began = self.cpu_clock()
        result = work()
        slices.append(self.cpu_clock() - began)
        self.metrics.slices.observe(slices[-1])
        return result

    async def _reject(self, bad: Iterable[tuple[AdRecord, str]]) -> None:
        letters = [self._letter(record, reason) for record, reason in bad]
        self.metrics.changes.labels("rejected").inc(len(letters))
        if letters:
            self.failure = (
                f"topic {self.topic}: dead letters that sink.dead_letter_topic has not taken yet: {len(letters)}"
            )
            await asyncio.gather(*map(self.send, letters))
            self.failure = self.ads.outage()

    def _letter(self, record: AdRecord, reason: str) -> DeadLetter:
        origin = Origin(self.topic, record.partition, record.offset)
        stage = "table" if record.unreadable is None else "read"
        return DeadLetter(record.key, record.value, record.headers, origin, record.timestamp_ms, stage, reason)

    def tell_lag(self) -> None:
        """Sets the lag in seconds, also while a batch waits for its dead letters."""
        if self._at_end:
            self.metrics.lag_seconds.labels(self.spec).set(self._behind_s())

    def _measure(self, batch: AdsBatch) -> None:
        now = self.clock()
        self._ends.update(batch.ends)
        for number, position in batch.offsets.items():
            # An end that no new reply confirms may have moved.
            is_at_end = number in batch.ends and position >= batch.ends[number]
            self._at_end[number] = now if is_at_end else self._at_end.get(number, now)
        behind = (end - batch.offsets.get(number, end) for number, end in self._ends.items())
        self.metrics.lag.labels(self.spec).set(sum(max(0, records) for records in behind))
        self.tell_lag()

    def _behind_s(self) -> float:
        """The time since the last partition was read to its end, in seconds."""
        now = self.clock()
        return now - min(self._at_end.values(), default=now)

    def _silent_s(self) -> float:
        """The time since a broker has answered, in seconds."""
        return self.clock() - self._read_at

    async def _pause(self, seconds: float) -> None:
        due = self.clock() + seconds
        await asyncio.sleep(seconds)
        self._pace.resumed(self.clock() - due)
        self.on_turn()


def _is_old(writer: Writer) -> bool:
    """Whether the topic may have lost deletions behind the table's positions."""
    return bool(writer.state.positions) and writer.age_s > MAX_AGE_S


def _by_number(of_partitions: Mapping[int, int]) -> list[int]:
    """The values of the partitions 0, 1, …"""
    return [value for _, value in sorted(of_partitions.items())]
