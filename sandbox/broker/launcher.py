"""Runs a command that dies with its parent: ``python -I -S launcher.py PARENT_PID COMMAND…``.

It becomes the command (same pid) after asking the kernel for SIGKILL when the parent thread ends. A separate
program instead of ``preexec_fn``, because running Python between fork and exec can deadlock a parent with threads.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent_pid = int(sys.argv[1])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent_pid:  # it ended before the request was made
            sys.exit(1)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # a mask of the parent's would outlive exec
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606


if __name__ == "__main__":
    main()
