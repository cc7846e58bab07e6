"""The owner of tasks, and the wait with a bound."""

import asyncio

import pytest

from streamer.tasks import TaskOwner, set_within
from streamer.testing.virtual_loop import virtual


@virtual
async def test_the_block_ends_when_every_task_has_ended() -> None:
    ended: list[str] = []

    async def work(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)  # of the virtual clock
        ended.append(name)

    owner = TaskOwner()
    async with owner:
        owner.spawn(work("slow", 2.0), "slow")
        owner.spawn(work("quick", 1.0), "quick")
        assert repr(owner) == "<TaskOwner 2 tasks>"
    assert ended == ["quick", "slow"]
    assert repr(owner) == "<TaskOwner 0 tasks>"


@virtual
async def test_an_exception_cancels_the_other_tasks_and_leaves_the_block() -> None:
    cancelled = asyncio.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def fail() -> None:
        await asyncio.sleep(1.0)  # of the virtual clock
        raise LookupError("as told")

    async def run() -> None:
        async with TaskOwner() as owner:
            owner.spawn(wait(), "wait")
            owner.spawn(fail(), "fail")

    with pytest.raises(ExceptionGroup) as raised:
        await run()
    assert raised.group_contains(LookupError, match="as told")
    assert cancelled.is_set()


@virtual
async def test_cancel_ends_every_task_and_the_block_without_an_error() -> None:
    owner = TaskOwner()
    async with owner:
        tasks = [owner.spawn(asyncio.sleep(1e9), f"task {i}") for i in range(3)]
        await asyncio.sleep(1.0)  # of the virtual clock
        owner.cancel()
    assert all(task.cancelled() for task in tasks)
    assert [task.get_name() for task in tasks] == ["task 0", "task 1", "task 2"]


@virtual
async def test_a_task_outside_the_block_is_rejected() -> None:
    work = asyncio.sleep(0)
    with pytest.raises(RuntimeError):
        TaskOwner().spawn(work, "early")
    work.close()


@virtual
async def test_a_wait_ends_with_its_event_or_with_its_bound() -> None:
    event, loop = asyncio.Event(), asyncio.get_running_loop()
    start = loop.time()
    assert not await set_within(event, 2.0)
    assert loop.time() == start + 2.0
    loop.call_later(1.0, event.set)
    assert await set_within(event, 5.0)
    assert loop.time() == start + 3.0
