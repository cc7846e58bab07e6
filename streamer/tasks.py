"""The owner of a process's tasks, a wait with a bound, and the delay of the event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

Spawn = Callable[[Coroutine[Any, Any, None], str], object]
"""Starts a task by a name. The owner of the tasks ends it."""


_PROBE_S = 0.1


class TaskOwner:
    """Owns the tasks of a process: starts them by name and keeps them in a set until they end.

    1. The block `async with owner.running()` ends when every task has ended.
    2. An exception in a task cancels the other tasks and leaves the block in an ExceptionGroup.
    """

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<TaskOwner {len(self._tasks)} tasks>"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """The block in which tasks may be started."""
        async with self._group:
            yield self

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Starts a task. Raises RuntimeError outside the block."""
        task = self._group.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def cancel(self) -> None:
        """Cancels every task that has not ended."""
        for task in self._tasks:
            task.cancel()


async def set_within(event: asyncio.Event, seconds: float) -> bool:
    """Waits at most `seconds` for the event and returns whether it is set.

    Not `asyncio.wait_for`: Python 3.11's loses a cancellation that arrives together with the event.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


async def probe_loop(clock: Callable[[], float], observe: Callable[[float], None]) -> None:
    """Measures the delay of the event loop in seconds, several times a second; until cancelled."""
    while True:
        due = clock() + _PROBE_S
        await asyncio.sleep(_PROBE_S)
        observe(max(0.0, clock() - due))
