"""Loads that fail, and reloads while the base paths are polled."""

from pathlib import Path

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
