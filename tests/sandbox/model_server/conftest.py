"""SavedModels for the tests of the model server."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from sandbox.processes.server_program import STAND_IN, VARIABLE


@pytest.fixture(scope="package", autouse=True)
def stand_in() -> Iterator[None]:
    """These tests are about the stand-in, also where the other tests use TensorFlow Serving's binary."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, STAND_IN)
        yield


@pytest.fixture(scope="session")
def tiny_models(pytestconfig: pytest.Config) -> Path:
    """A folder with the SavedModels `plus_two` and `plus_three`, made once.

    pytest's cache keeps them between runs, because the import of TensorFlow can take longer than all these tests.
    """
    script = Path(__file__).with_name("models.py")
    state = hashlib.sha256(script.read_bytes() + version("tensorflow").encode()).hexdigest()[:16]
    folder = pytestconfig.cache.mkdir("model_server_models") / state
    if not folder.exists():
        partial = folder.with_suffix(f".{os.getpid()}")
        command = [sys.executable, "-m", "tests.sandbox.model_server.models", str(partial)]
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
        subprocess.run(command, env={**os.environ, **quiet}, timeout=600, check=True)
        partial.rename(folder)
    return folder
