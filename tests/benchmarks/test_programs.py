"""A measured program that exits too early."""

import subprocess
import sys

import pytest

from benchmarks.programs import follow
from sandbox.host.ports import LOOPBACK, free_ports


def test_an_exited_program_raises_an_error_immediately() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    with ended, pytest.raises(RuntimeError, match=rf"process {ended.pid} exited after 0 of 7 answers on scores"):
        follow(ended.pid, f"{LOOPBACK}:{free_ports(1)[0]}", "scores", 7)
