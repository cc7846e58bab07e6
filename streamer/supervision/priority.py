"""The CPU priority of worker processes."""

import os
import resource
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_CAP_SYS_NICE = 1 << 23
_START_NICENESS = 10


class StartPriority:
    """Lowers the priority of processes that start while others work.

    A start takes a core for a second or two. Nothing changes where the system would not permit to take it back.
    """

    def __init__(self) -> None:
        self._normal = os.getpriority(os.PRIO_PROCESS, 0)
        self._is_permitted = may_lower()
        self._niceness: dict[int, int] = {}

    def apply(self, starting: Mapping[int, bool], *, others_work: bool) -> None:
        """Sets the priority of all processes; `starting`: whether each still starts, by process id."""
        lowered = self._normal + (_START_NICENESS if others_work and self._is_permitted else 0)
        wanted = {pid: lowered if is_starting else self._normal for pid, is_starting in starting.items()}
        for pid, niceness in wanted.items():
            if niceness != self._niceness.get(pid, self._normal):
                set_niceness(pid, niceness)
        self._niceness = wanted


def may_lower() -> bool:
    """Whether this process could take back a lower priority.

    It needs CAP_SYS_NICE or a limit of niceness.
    """
    normal = 20 - os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(OSError, AttributeError):
        if resource.getrlimit(resource.RLIMIT_NICE)[0] >= normal:
            return True
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return any(int(line.split()[1], 16) & _CAP_SYS_NICE for line in lines if line.startswith("CapEff:"))
    return False


def set_niceness(pid: int, niceness: int) -> None:
    """Sets the niceness of all threads of a process that may just have ended."""
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, int(thread.name), niceness)


def pin(pid: int, place: int) -> None:
    """Makes all threads of a process run on one core, chosen by `place`."""
    cores = sorted(os.sched_getaffinity(0))
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), {cores[place % len(cores)]})
