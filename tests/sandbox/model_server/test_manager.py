"""Loads that fail, and reloads while the base paths are polled."""

import threading
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path, PosixPath
from typing import Self

import pytest

from sandbox.model_server.lean_tensorflow import lean_tensorflow

with lean_tensorflow():
    from sandbox.model_server.config import ModelConfig
    from sandbox.model_server.flags import ServerFlags
    from sandbox.model_server.manager import Manager
    from sandbox.model_server.monitoring import ServerMetrics
    from sandbox.model_server.status import StatusError

# One poll, and no retry.
FLAGS = ServerFlags(file_system_poll_wait_seconds=0, max_num_load_retries=0)
WAIT_S = 30.0


def test_a_description_that_is_no_text_is_a_failed_load_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pbtxt").write_bytes(b"\xff")
    manager = Manager(FLAGS, ServerMetrics())
    manager.start([ModelConfig("m", tmp_path)])
    with pytest.raises(StatusError, match=r"INVALID_ARGUMENT: Cannot load SavedModel at .*: 'utf-8' codec"):
        manager.wait_until_available(["m"], wait_s=WAIT_S)


def test_versions_of_a_former_base_path_are_not_loaded_from_the_new_one(tmp_path: Path) -> None:
    (tmp_path / "old" / "7").mkdir(parents=True)
    (tmp_path / "new").mkdir()
    manager = Manager(FLAGS, ServerMetrics())

    class Old(PosixPath):
        """A folder that is listed while a reload replaces it by another one."""

        def iterdir(self) -> Generator[Self, None, None]:
            manager.reload([ModelConfig("m", tmp_path / "new")])
            return super().iterdir()

    manager.start([ModelConfig("m", Old(tmp_path / "old"))])
    for thread in threading.enumerate():
        if thread.name == "poll":
            thread.join(WAIT_S)
    with pytest.raises(StatusError, match="Could not find any versions of model m"):
        manager.statuses("m", None)


def test_a_path_with_a_zero_byte_does_not_end_the_poll(tmp_path: Path) -> None:
    (tmp_path / "1").touch()
    manager = Manager(FLAGS, ServerMetrics())
    manager.start([ModelConfig("wrong", Path("/a\0b")), ModelConfig("m", tmp_path)])
    with pytest.raises(StatusError, match="Not a directory"):
        manager.wait_until_available(["m"], wait_s=WAIT_S)


def test_a_version_that_is_replaced_while_its_load_is_retried_is_loaded_again(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    flags = replace(FLAGS, num_load_threads=1, max_num_load_retries=1, load_retry_interval_micros=50_000)
    manager = Manager(flags, ServerMetrics())
    configs = [ModelConfig("m", tmp_path)]
    manager.start(configs)
    manager.reload(configs)
    (tmp_path / "1").rmdir()
    manager.reload(configs)
    (tmp_path / "1").touch()
    manager.reload(configs)
    with pytest.raises(StatusError, match=r"FAILED_PRECONDITION: .*Not a directory"):
        manager.wait_until_available(["m"], wait_s=WAIT_S)
