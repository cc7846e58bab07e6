"""Lets programs under measurement go before those that stand for other machines: broker, bidders, rankers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

_FIRST = 1


@contextmanager
def ahead(*pids: int) -> Iterator[bool]:
    """Within the block all threads of these processes, and those that they start, run as soon as they can.

    They are scheduled in real time, round robin, and as others afterwards. Yields False, and changes nothing, where the
    system does not allow that: it takes root or CAP_SYS_NICE.
    """
    try:
        _schedule(pids, os.SCHED_RR, _FIRST)
    except PermissionError:
        yield False
        return
    try:
        yield True
    finally:
        _schedule(pids, os.SCHED_OTHER, 0)


def _schedule(pids: tuple[int, ...], policy: int, priority: int) -> None:
    for pid in pids:
        if not psutil.pid_exists(pid):
            continue
        for thread in psutil.Process(pid).threads():
            try:
                os.sched_setscheduler(thread.id, policy, os.sched_param(priority))
            except ProcessLookupError:  # it has ended meanwhile
                continue
