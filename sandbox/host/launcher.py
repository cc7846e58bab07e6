"""Runs a command that is killed when its parent ends: `launcher.py PARENT_PID COMMAND…`.

The process asks the kernel for SIGKILL at the end of the parent thread, then becomes the command (same pid). It is a
separate program because Python code between fork and exec (`preexec_fn`) can deadlock a parent that has threads.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Asks for the signal, then executes the command."""
    parent_pid = int(sys.argv[1])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent_pid:  # the parent ended before the request
            sys.exit(1)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # exec keeps the signal mask of the parent
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606


if __name__ == "__main__":
    main()
