"""What ties a launched process to its launcher: a standard input that stays open for as long as the launcher lives.

The operating system closes it whatever the launcher dies of, so that even SIGKILL leaves nobody behind.
"""

import os
import threading
from collections.abc import Mapping

LIFELINE = "MODEL_TRAINING_LIFELINE"
"""Set in the environment of a process that is to end when its standard input does."""

_ORPHANED = 1


def end_with_launcher(environment: Mapping[str, str]) -> None:
    """Ends this process, from a thread of its own, once its standard input has ended; nothing if nobody asks for it."""
    if environment.get(LIFELINE):
        threading.Thread(target=_await_end, name="lifeline", daemon=True).start()


def _await_end() -> None:
    while os.read(0, 1):
        pass
    # Not by an exception: the main thread may wait in TensorFlow for processes that are gone as well.
    os._exit(_ORPHANED)
