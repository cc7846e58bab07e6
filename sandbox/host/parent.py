"""Binds the life of a child process to its parent, by a command line or by the child itself."""

import os
import sys
import threading
from pathlib import Path

_LAUNCHER = Path(__file__).with_name("launcher.py")
EXIT_WITH_STDIN = "SANDBOX_EXIT_WITH_STDIN"
"""Environment variable of a child whose standard input is a pipe from its parent; see `end_with_parent`."""


def parent_bound_command(command: list[str]) -> list[str]:
    """The command line that runs `command` and has it killed when the calling thread ends."""
    return [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid()), *command]


def end_with_parent() -> None:
    """Makes this process exit when its parent exits, if the parent has set `EXIT_WITH_STDIN`."""
    if EXIT_WITH_STDIN in os.environ:
        threading.Thread(target=_exit_with_stdin, name="parent", daemon=True).start()


def _exit_with_stdin() -> None:
    """The parent holds the other end of standard input; the pipe closes when the parent exits."""
    while os.read(0, 4096):
        pass
    os._exit(1)
