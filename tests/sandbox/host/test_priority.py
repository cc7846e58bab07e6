"""Measured programs have real-time priority within the block only."""

import os
import subprocess
import sys

import psutil

from sandbox.host.priority import real_time_priority

_TWO_THREADS = """
import threading, time
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print()
time.sleep(60)
"""


def test_a_process_and_its_threads_have_priority_within_the_block() -> None:
    with subprocess.Popen([sys.executable, "-u", "-c", _TWO_THREADS], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()

        def policies() -> set[int]:
            return {os.sched_getscheduler(thread.id) for thread in psutil.Process(process.pid).threads()}

        with real_time_priority(process.pid) as allowed:
            assert policies() == {os.SCHED_RR if allowed else os.SCHED_OTHER}
        assert policies() == {os.SCHED_OTHER}
        process.kill()
    with real_time_priority(process.pid):  # the process has ended
        pass
