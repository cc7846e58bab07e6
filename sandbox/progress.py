"""How the sandbox's programs show what they are doing."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


@contextmanager
def step(console: Console, name: str) -> Iterator[None]:
    """Prints what is being done, and how long it took."""
    console.print(f"{name} ...", style="bold", markup=False, soft_wrap=True)
    started = time.monotonic()
    yield
    console.print(f"  done in {time.monotonic() - started:.1f} s")
