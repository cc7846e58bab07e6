"""Ctrl-C during a preparation."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.model_training.preparation.conftest import TABLE_SOURCE, write_config, write_log

pytestmark = pytest.mark.slow


def _works(process: psutil.Process) -> bool:
    try:
        return "pyspark.daemon" in process.cmdline()
    except psutil.Error:
        return False


def test_ctrl_c_ends_spark_and_leaves_no_data_and_no_stack_trace(tmp_path: Path) -> None:
    write_log(tmp_path / "log.jsonl")
    config = write_config(tmp_path, TABLE_SOURCE | {"paths": [str(tmp_path / "log.jsonl")]})
    arguments = ["prepare", "--config", str(config), "--output", str(tmp_path / "out")]
    command = [sys.executable, "-m", "model_training", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        deadline = time.monotonic() + 300
        while not any(_works(child) for child in psutil.Process(process.pid).children(recursive=True)):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "Traceback" not in output, output
    _, alive = psutil.wait_procs(started, timeout=60)
    assert alive == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", "prepare.yaml", "spec.yaml"]
