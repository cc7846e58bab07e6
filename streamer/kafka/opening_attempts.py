"""Opens partitions in attempts, each partition as soon as it can be opened."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka.errors import CommitFailedError, IllegalStateError, InvalidTransactionTimeout
from structlog.typing import FilteringBoundLogger

from streamer.errors import ConfigError
from streamer.kafka.rejections import transaction_timeout
from streamer.metrics import Metrics
from streamer.types import Partition

RETRY_S = 1.0
Written = dict[Partition, tuple[int, str]]
"""The commits of the attempts so far."""
Failures = dict[Partition, Exception]


@dataclass(slots=True, eq=False)
class OpeningAttempts:
    """Tries to open partitions until each is open, lost or released.

    1. A partition that cannot be opened, for example without a leader, delays the others by a third of one attempt.
    2. An attempt ends in time: after `first_s`, and after twice the time in each later one, at most `longest_s`.

    Attributes:
        open_now: opens partitions, a third of the seconds for each request; returns those that failed.
        forget: gives up partitions that were not opened.
        is_stopped: whether a partition shall not be opened any more.
        transaction_timeout_ms: the setting, for the error if the brokers reject it.
    """

    open_now: Callable[[Sequence[Partition], Written, float], Awaitable[Failures]]
    forget: Callable[[Sequence[Partition]], Awaitable[None]]
    is_stopped: Callable[[Partition], bool]
    first_s: float
    longest_s: float
    transaction_timeout_ms: int
    metrics: Metrics
    log: FilteringBoundLogger
    _written: Written = field(default_factory=dict)
    _tries: dict[Partition, int] = field(default_factory=dict)
    _ended: dict[Partition, asyncio.Event] = field(default_factory=dict)
    _running: dict[Partition, asyncio.Timeout] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def begin(self, partitions: Iterable[Partition]) -> frozenset[Partition]:
        """Makes the first attempt; returns the partitions for `retry`.

        Raises:
            ConfigError: the brokers reject `delivery.transaction_timeout_ms`. Later attempts raise it, too.
        """
        new = frozenset(partitions)
        self._ended.update({partition: asyncio.Event() for partition in new})
        return await self._attempt(new)

    async def retry(self, left: frozenset[Partition]) -> frozenset[Partition]:
        """Makes another attempt after a second; returns the partitions for the next one."""
        try:
            await asyncio.sleep(RETRY_S)
        except BaseException:
            self._end(left)
            raise
        return await self._attempt(left)

    async def finish(self, left: frozenset[Partition]) -> None:
        """Retries until each partition is open, lost or released."""
        while left:
            left = await self.retry(left)

    def run(self, attempts: Coroutine[Any, Any, None]) -> None:
        """Makes later attempts in a task, until `stop`."""
        task = asyncio.get_running_loop().create_task(attempts, name="open partitions")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """Ends the tasks."""
        for task in self._tasks:
            task.cancel()

    async def until_ended(self, partitions: Iterable[Partition]) -> None:
        """Waits until the attempts for these partitions have ended, at most a second each."""
        end = asyncio.get_running_loop().time() + RETRY_S
        left = [partition for partition in partitions if partition in self._ended]
        for attempt in {self._running[partition] for partition in left if partition in self._running}:
            if not attempt.expired():  # else it cleans up now
                attempt.reschedule(min(end, attempt.when() or end))
        for ended in [self._ended[partition] for partition in left]:
            await ended.wait()

    async def _attempt(self, new: frozenset[Partition]) -> frozenset[Partition]:
        stopped, failed = frozenset(filter(self.is_stopped, new)), Failures()
        try:
            # An attempt that failed may have isolated them or started their producers.
            await self.forget(list(stopped))
            # Now: who waits for them must not wait for the others.
            self._end(stopped)
            new -= stopped
            if new:
                failed = await self._failed(sorted(new))
        finally:
            self._end(new - failed.keys())
        for error in failed.values():
            if isinstance(error, InvalidTransactionTimeout):  # no retry helps
                self._end(failed)
                raise ConfigError(transaction_timeout(self.transaction_timeout_ms, {})) from error
        if failed:
            for partition in failed:
                self._tries[partition] = self._tries.get(partition, 0) + 1
                self.metrics.unreadable.labels(partition[1]).set(1)
            errors = {"{}/{}".format(*partition): repr(error) for partition, error in failed.items()}
            self.log.warning("partitions cannot be opened, retried", errors=errors)
        return frozenset(failed)

    async def _failed(self, new: Sequence[Partition]) -> Failures:
        seconds = min(self.longest_s, self.first_s * 2 ** max(self._tries.get(partition, 0) for partition in new))
        try:
            async with asyncio.timeout(seconds) as attempt:
                self._running.update(dict.fromkeys(new, attempt))
                try:
                    return await self.open_now(new, self._written, seconds / 3)
                finally:
                    for partition in new:
                        del self._running[partition]
        except (CommitFailedError, IllegalStateError) as error:
            self.log.warning("partitions lost before they were opened", error=repr(error))
            await self.forget(new)
            return {}
        except Exception as error:  # noqa: BLE001  of a client; an attempt that raised would be the last one
            return dict.fromkeys(new, error)

    def _end(self, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            self._written.pop(partition, None)
            if self._tries.pop(partition, None) is not None:
                self.metrics.unreadable.remove(partition[1])
            self._ended.pop(partition).set()


async def each(
    partitions: Iterable[Partition], work: Callable[[Partition], Awaitable[object]], seconds: float
) -> dict[Partition, Exception]:
    """Runs the work for all partitions, each within the seconds; returns those that failed."""

    async def one(partition: Partition) -> Exception | None:
        try:
            async with asyncio.timeout(seconds):
                await work(partition)
        except Exception as error:  # noqa: BLE001  one partition's error must not end the others' requests
            return error
        return None

    of = list(partitions)
    errors = await asyncio.gather(*(one(partition) for partition in of))
    return {partition: error for partition, error in zip(of, errors, strict=True) if error is not None}
