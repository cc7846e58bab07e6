"""Binds the life of a child process to its parent."""

import os
import sys
from pathlib import Path

_LAUNCHER = Path(__file__).with_name("launcher.py")


def parent_bound_command(command: list[str]) -> list[str]:
    """The command line that runs `command` and has it killed when the calling thread ends."""
    return [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid()), *command]
