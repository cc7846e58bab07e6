"""Following a program that does not do its work."""

import subprocess
import sys

import pytest

from benchmarks.programs import follow
from sandbox.host.ports import LOOPBACK, free_ports


def test_a_program_that_has_ended_is_not_waited_for() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    with ended, pytest.raises(RuntimeError, match=rf"process {ended.pid} exited after 0 of 7 answers on scores"):
        follow(ended.pid, f"{LOOPBACK}:{free_ports(1)[0]}", "scores", 7)
