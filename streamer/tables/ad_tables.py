"""The tables of a process: one for each feature spec that serves, or is prepared."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Self
from weakref import WeakSet

from structlog.typing import FilteringBoundLogger

from streamer.ads import AdTable, FoundAds, RowForm
from streamer.errors import TableLoadingError
from streamer.tables.table import Table
from streamer.tasks import TaskOwner

_CHECK_S = 1.0


class _Opened:
    """A table, as one prepared version holds it. The table is in use while this object exists."""

    __slots__ = ("__weakref__", "lookup")

    def __init__(self, lookup: Callable[[Sequence[str]], FoundAds]) -> None:
        self.lookup = lookup


class AdTables:
    """Opens the tables of feature specs, and closes those that no version uses any more.

    1. At most `most` tables are in memory; a further one waits until one of them is closed.
    2. A table is closed when all objects that `open` has returned for it are gone, and no version has asked for it for
       `kept_s` seconds.
    3. Its tasks end with the block `async with tables.running()`.
    """

    def __init__(
        self,
        topic: str,
        new_table: Callable[[RowForm, str], Table],
        stop_letters: Callable[[], Awaitable[None]],
        log: FilteringBoundLogger,
        clock: Callable[[], float],
        *,
        most: int,
        kept_s: float,
        tasks: TaskOwner,
    ) -> None:
        """`new_table` gets a form and the hash of its spec.

        `stop_letters` disconnects the sink of dead letters.
        """
        self._topic = topic
        self._new_table = new_table
        self._stop_letters = stop_letters
        self._log = log
        self._clock = clock
        self._most = most
        self._kept_s = kept_s
        self._tasks = tasks
        self._tables: dict[str, tuple[Table, asyncio.Task[None], WeakSet[_Opened]]] = {}
        self._refused: set[str] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """The block in which tables can be opened."""
        failure = None
        try:
            async with self._tasks.running() as tasks:
                tasks.spawn(self._close_unused(), "tables")
                try:
                    yield self
                except Exception as error:  # noqa: BLE001  raised below: a task group would wrap it
                    failure = error
                finally:
                    tasks.cancel()
        finally:
            await self._stop_letters()
        if failure is not None:
            raise failure

    def open(self, form: RowForm, spec_hash: str) -> AdTable:
        """The loaded table of a form; `spec_hash` names it in logs and metrics.

        Raises:
            TableLoadingError: it loads in the background, or waits for memory; the text has the progress.
        """
        found = self._tables.get(form.fingerprint)
        if found is None:
            if len(self._tables) >= self._most:
                waits = "it waits until no version uses one of them"
                reason = f"topic {self._topic}: {self._most} tables are in memory; {waits}"
                if form.fingerprint not in self._refused:
                    self._refused.add(form.fingerprint)
                    self._log.warning("table of ads waits", error=reason, spec_hash=spec_hash)
                raise TableLoadingError(reason, has_no_space=True)
            table = self._new_table(form, spec_hash)
            table.follower.is_alone = self._is_alone
            found = table, self._tasks.spawn(table.run(), "table"), WeakSet()
            self._tables[form.fingerprint] = found
            self._refused.discard(form.fingerprint)
        table, _, users = found
        table.asked_at = self._clock()
        if not table.is_loaded:
            raise TableLoadingError(table.progress())
        opened = _Opened(table.lookup)
        users.add(opened)
        return opened

    def _is_alone(self) -> bool:
        return not any(table.is_loaded for table, _, _ in self._tables.values())

    async def _close_unused(self) -> None:
        """Also tells of the tables, so that the alerts do not depend on their writers."""
        while True:
            await asyncio.sleep(_CHECK_S)
            for fingerprint, (table, task, users) in list(self._tables.items()):
                if not users and self._clock() - table.asked_at >= self._kept_s:
                    self._log.info("table of ads is closed, no version uses it", topic=self._topic)
                    table.is_unused = True
                    del self._tables[fingerprint]
                    task.cancel()
                else:
                    table.tell_age()
