"""Gives measured programs priority over broker, bidders and rankers on the same machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

_LOWEST_REAL_TIME = 1


@contextmanager
def real_time_priority(*pids: int) -> Iterator[bool]:
    """Within the block the threads of these processes have real-time priority (round robin).

    Threads that they start within the block inherit it. Afterwards all of them have normal priority.
    Yields False and changes nothing if the system does not permit it: root or CAP_SYS_NICE is necessary.
    """
    try:
        _schedule(pids, os.SCHED_RR, _LOWEST_REAL_TIME)
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
            except ProcessLookupError:  # the thread has ended since it was listed
                continue
