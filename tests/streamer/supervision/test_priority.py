"""Priorities of real processes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamer.supervision.priority import StartPriority, may_lower, pin, set_niceness

NORMAL = os.getpriority(os.PRIO_PROCESS, 0)


@pytest.fixture
def pid() -> Iterator[int]:
    """A process with several threads, or at least one."""
    program = "import threading, sys; threading.Thread(target=sys.stdin.read).start(); print(1, flush=True)"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


def threads(pid: int) -> list[int]:
    return [int(thread.name) for thread in Path(f"/proc/{pid}/task").iterdir()]


def niceness(pid: int) -> set[int]:
    return {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads(pid)}


def test_a_process_that_starts_while_others_work_has_a_lower_priority(pid: int) -> None:
    priority = StartPriority()
    lowered = min(NORMAL + 10, 19) if may_lower() else NORMAL
    priority.apply({pid: True}, others_work=False)
    assert niceness(pid) == {NORMAL}, "nobody else works: it is urgent"
    priority.apply({pid: True}, others_work=True)
    assert niceness(pid) == {lowered}
    priority.apply({pid: True}, others_work=False)
    assert niceness(pid) == {NORMAL}, "the others have died meanwhile"
    priority.apply({pid: True}, others_work=True)
    priority.apply({pid: False}, others_work=True)
    assert niceness(pid) == {NORMAL}, "it is ready"


def test_all_threads_are_pinned(pid: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    pin(pid, len(cores) + 1)
    chosen = {cores[1 % len(cores)]}
    assert all(os.sched_getaffinity(thread) == chosen for thread in threads(pid))


def test_a_process_that_has_ended_is_ignored() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    set_niceness(gone.pid, NORMAL)
    pin(gone.pid, 0)
