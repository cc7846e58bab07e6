"""Prints the steps of the sandbox's programs."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


@contextmanager
def step(console: Console, name: str) -> Iterator[None]:
    """Prints the name of the step, and its duration at its end."""
    console.print(f"{name} ...", style="bold", markup=False, soft_wrap=True)
    started = time.monotonic()
    yield
    console.print(f"  done in {time.monotonic() - started:.1f} s")
