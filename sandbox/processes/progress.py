"""Prints the steps of the sandbox's programs."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from rich.console import Console

_BEAT_S = 8.0


@contextmanager
def step(console: Console, name: str, *, has_bar: bool = False) -> Iterator[None]:
    """Prints the name of the step, its duration at its end, and signs of life in between.

    With `has_bar` it prints no signs of life in a terminal, because the step shows a bar that moves there.
    """
    console.print(f"{name} ...", style="bold", markup=False, soft_wrap=True)
    started = time.monotonic()
    with nullcontext() if has_bar and console.is_terminal else beats(console):
        yield
    console.print(f"  done in {time.monotonic() - started:.1f} s")


@contextmanager
def beats(console: Console) -> Iterator[None]:
    """Prints the time that has passed every 8 s, until the end of the block."""
    ended, started = threading.Event(), time.monotonic()

    def beat() -> None:
        while not ended.wait(_BEAT_S):
            console.print(f"  {time.monotonic() - started:.0f} s ...", style="dim")

    thread = threading.Thread(target=beat, name="signs of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
