"""An event loop on a virtual clock, which jumps to the next timer when no callback is ready."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


class _VirtualSelector(selectors.SelectSelector):
    """Never blocks: it advances the clock by the time that the loop would have waited."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("deadlock: the loop waits, and no timer is set")
            self.now += timeout
        return ready


def run_virtual(main: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Runs `main()` on a virtual clock, then cancels the tasks that it has left.

    `asyncio.get_running_loop().time()` reads the clock.

    Raises:
        RuntimeError: the loop waits, and no timer is set.
    """

    async def run() -> _T:
        return await main()

    with asyncio.Runner(loop_factory=_virtual_loop) as runner:
        return runner.run(run())


def virtual(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """A decorator that runs a test on the virtual clock."""

    def run() -> None:
        run_virtual(test)

    run.__name__ = test.__name__
    return run


def _virtual_loop() -> asyncio.AbstractEventLoop:
    selector = _VirtualSelector()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]
    return loop
