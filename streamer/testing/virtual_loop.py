"""An event loop whose clock stands still while there is work and jumps to the next timer when there is none."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


class _VirtualSelector(selectors.SelectSelector):
    """Never blocks: time that the loop would have waited has passed at once."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("the loop waits for something that will never happen")
            self.now += timeout
        return ready


def run_virtual(main: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Runs `main()` on a virtual clock, which `asyncio.get_running_loop().time()` reads. Cancels what it leaves.

    Raises:
        RuntimeError: the loop waits, and no timer is set.
    """
    selector = _VirtualSelector()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]
    try:
        return loop.run_until_complete(_with_nothing_left(main))
    finally:
        loop.close()


def virtual(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Runs a test on the virtual clock."""

    def run() -> None:
        async def main() -> None:
            await test()

        run_virtual(main)

    run.__name__ = test.__name__
    return run


async def _with_nothing_left(main: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    try:
        return await main()
    finally:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
