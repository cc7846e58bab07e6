"""Ends a launched process together with its launcher.

The launcher keeps the process's standard input open. The operating system closes the standard input when the launcher
dies, also by SIGKILL, so no process is left over.
"""

import os
import threading
from collections.abc import Mapping

LIFELINE = "MODEL_TRAINING_LIFELINE"
"""Set in the environment of a process that must end when its standard input ends."""

_ORPHANED = 1


def end_with_launcher(environment: Mapping[str, str]) -> None:
    """If `LIFELINE` is set, starts a thread that ends this process when its standard input ends."""
    if environment.get(LIFELINE):
        threading.Thread(target=_await_end, name="lifeline", daemon=True).start()


def _await_end() -> None:
    while os.read(0, 1):
        pass
    # Not by an exception: the main thread may be inside TensorFlow, waiting for processes that have ended too.
    os._exit(_ORPHANED)
