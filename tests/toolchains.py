"""Programs that a machine may lack."""

import os
import shutil
from typing import NoReturn

import pytest


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
