"""The owner of a process's tasks, and a wait with a bound."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

Spawn = Callable[[Coroutine[Any, Any, None], str], object]
"""Starts a task by a name. The owner of the tasks ends it."""


class TaskOwner:
    """Owns the tasks of a process: starts them by name and keeps them in a set until they end.

    1. The block `async with owner` ends when every task has ended.
    2. An exception in a task cancels the other tasks and leaves the block in an ExceptionGroup.
    """

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<TaskOwner {len(self._tasks)} tasks>"

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._group.__aexit__(kind, error, trace)

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
