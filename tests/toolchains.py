"""Programs that a machine may lack, and the compiled module."""

import os
import shutil
from types import ModuleType
from typing import NoReturn

import pytest

from streamer import native


def absent(line: str) -> NoReturn:
    """Skips the test; where `CI` is set, fails."""
    if os.environ.get("CI"):
        pytest.fail(line)
    pytest.skip(line)


def needs(*programs: str) -> None:
    """Skips the test if a program is missing; where `CI` is set, fails."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        absent(f"needs {', '.join(missing)} on the PATH")


def needs_native() -> ModuleType:
    """The compiled module. Without it skips the test; where `CI` is set, fails, unless the environment disables it."""
    if native.module is None:
        if os.environ.get(native.SWITCH) == "off":
            pytest.skip(native.state)
        absent(f"ctr-streamer-native is {native.state}: `make native` builds it")
    return native.module
