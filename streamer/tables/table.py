"""The table of one feature spec: read here, and written while this process has the lock."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

from streamer.ads import AdsLog, FoundAds, LostPosition
from streamer.errors import ConfigError
from streamer.metrics import TableMetrics
from streamer.tables.follower import Follower
from streamer.tables.reader import Reader
from streamer.tables.store import AdStore
from streamer.tables.writer import Writer

_POLL_S = 0.2
_RETRY_S = 1.0
# Processes of former specs and topics may end without removing their tables.
_TIDY_S = 60.0
# Rows of a process that has not written for longer may be of deleted ads; a writer replaces such a store.
_MAX_AGE_S = 3600.0
# A topic that is created again is filled again. Until then the former rows are better than none.
_SAME_SHARE = 0.9
_REFILL_S = 600.0


@dataclass(slots=True, eq=False)
class Table:
    """Follows the store of one spec, which one process of the machine writes.

    1. `lookup` has the rows of all ads from the moment that `is_loaded` is true.
    2. While another store is loaded because the topic was created again, the former one is read.
    3. This process has the lock only while it follows the topic.

    Attributes:
        new_store: the store of a topic's id.
        spec: names the table in metrics.
        is_loaded: whether the table was read to the end of the topic; it stays true.
        asked_at: when a version last asked for it, monotonic seconds.
        is_unused: no version needs it any more: its end removes the store, unless another process uses it.
    """

    ads: AdsLog
    new_store: Callable[[str], AdStore]
    follower: Follower
    spec: str
    metrics: TableMetrics
    log: FilteringBoundLogger
    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    is_loaded: bool = False
    asked_at: float = 0.0
    is_unused: bool = False
    _waits: str | None = None
    _topic_id: str | None = None
    _store: AdStore | None = None
    _reader: Reader | None = None
    _writes: bool = False
    # The store of the topic's former id, and when the present one began.
    _former: tuple[AdStore, Reader] | None = None
    _began_at: float = 0.0
    # Those that are left, a step at a time.
    _leaving: list[Iterator[None]] = field(default_factory=list)
    _watch_at: float = 0.0
    _tidy_at: float = 0.0

    def __post_init__(self) -> None:
        self.follower.on_turn = self.watch

    async def run(self) -> None:
        """Follows the topic; until cancelled."""
        try:
            while True:
                try:
                    await self._use(await self.ads.topic_id())
                    self._waits = None
                    await self._follow()
                except ConfigError as error:
                    self._waits = str(error)
                    self.log.warning("table of ads waits", error=str(error))
                except Exception as error:
                    # A defect here must not stop the scores of the versions that serve.
                    self._waits = f"internal error: {error!r:.200}"
                    self.log.exception("table of ads failed, retried")
                await asyncio.sleep(_RETRY_S)
        finally:
            await self._close()

    def lookup(self, ad_ids: Sequence[str]) -> FoundAds:
        """The rows of these ads. It never waits. Only for a loaded table."""
        reader = self._reader if self._former is None else self._former[1]
        assert reader is not None, "loaded"
        return reader.lookup(ad_ids)

    def progress(self) -> str:
        """How far the topic is read, for a person."""
        if (failure := self._waits or self.follower.failure) is not None:
            return failure
        share = 0.0 if self._reader is None else self._reader.state.loaded_share
        return f"reading topic {self.follower.topic}: {100 * share:.0f} %"

    def watch(self) -> None:
        """Looks at the store several times a second; each call maps or unmaps at most 1 MB."""
        assert self._store is not None, "followed"
        self._step()
        if self.clock() < self._watch_at:
            return
        self._watch_at = self.clock() + _POLL_S / 2
        if self.clock() >= self._tidy_at:
            self._tidy_at = self.clock() + _TIDY_S
            self._store.remove_unused()
        if self._reader is None:
            self._reader = self._store.open_reader()
            if self._reader is None:
                return
        elif self._reader.refresh():
            self.log.info("table of ads was replaced")
        state = self._reader.state
        age_s = max(0.0, self.wall_clock() - state.written_at)
        for gauge, value in (
            (self.metrics.ads, state.count),
            (self.metrics.bytes, state.used_bytes),
            (self.metrics.loaded, state.loaded_share),
            (self.metrics.age, age_s),
            (self.metrics.writes, self._writes),
        ):
            gauge.labels(self.spec).set(value)
        if self._former is not None:
            self._leave_former(state.count, is_ready=state.is_ready)
        elif not self.is_loaded and state.is_ready and self._is_read(age_s):
            self.is_loaded = True
            self.log.info("table of ads is ready", ads=state.count, bytes=state.used_bytes, writes=self._writes)

    def tell_age(self) -> None:
        """Sets the gauges of age and lag, whatever the writer waits for."""
        if self._reader is not None:
            self.metrics.age.labels(self.spec).set(max(0.0, self.wall_clock() - self._reader.state.written_at))
        self.follower.tell_lag()

    def _is_read(self, age_s: float) -> bool:
        """Whether the rows are those of the end of the topic, as far as this process can know."""
        if self._writes:
            return self.follower.is_current
        return age_s < _MAX_AGE_S

    def _step(self) -> bool:
        """Maps or unmaps at most 1 MB. False: there is nothing to do."""
        if self._reader is not None and self._reader.step():
            return True
        while self._leaving:
            if next(self._leaving[0], "left") is None:
                return True
            del self._leaving[0]
        return False

    async def _follow(self) -> None:
        """Reads, and writes if possible, until the topic may have another id."""
        store, topic_id = self._store, self._topic_id
        assert store is not None, "the id is known"
        assert topic_id is not None
        is_confirmed = True
        while True:
            if self._reader is None:
                self._reader = store.open_reader()
            await _in_steps(iter(self._step, False))
            if self._reader is not None and self._reader.state.is_retired and not is_confirmed:
                return
            is_confirmed = False
            writer = store.open_writer()
            if writer is not None:
                try:
                    self._writes = True
                    lost = await self.follower.run(writer, topic_id)
                    if lost is not None:
                        self._retire(writer, lost)
                        return
                finally:
                    self._writes = False
                    await _in_steps(writer.closing())
            self.watch()
            await asyncio.sleep(_POLL_S)

    def _retire(self, writer: Writer, lost: LostPosition) -> None:
        self.metrics.reloads.labels(lost.reason).inc()
        self.log.error("table of ads is loaded again", reason=lost.reason, detail=lost.detail)
        writer.retire()

    async def _use(self, topic_id: str) -> None:
        """Follows the store of this topic from now on."""
        if topic_id == self._topic_id:
            return
        store, reader = self._store, self._reader
        if store is not None:
            if reader is not None and self.is_loaded and self._former is None:
                self._former = store, reader
            else:
                self._reader = None
                await _in_steps(_left(store, reader))
        self._topic_id, self._store, self._reader = topic_id, self.new_store(topic_id), None
        self._began_at = self.clock()

    def _leave_former(self, ads: int, *, is_ready: bool) -> None:
        assert self._former is not None
        before = self._former[1].state.count
        if is_ready and (ads >= _SAME_SHARE * before or self.clock() - self._began_at >= _REFILL_S):
            self.log.info("table of ads is ready", ads=ads, ads_before=before, writes=self._writes)
            self._leaving.append(_left(*self._former))
            self._former = None

    async def _close(self) -> None:
        self.metrics.closed(self.spec)
        former, store, reader = self._former, self._store, self._reader
        self._former = self._store = self._reader = None
        if former is not None:
            self._leaving.append(_left(*former))
        if store is not None:
            self._leaving.append(_left(store, reader, is_removed=self.is_unused))
        for steps in self._leaving:
            await _in_steps(steps)


def _left(store: AdStore, reader: Reader | None, *, is_removed: bool = True) -> Iterator[None]:
    if reader is not None:
        yield from reader.closing()
    if is_removed:
        store.discard()


async def _in_steps(steps: Iterator[object]) -> None:
    for _ in steps:
        await asyncio.sleep(0)
