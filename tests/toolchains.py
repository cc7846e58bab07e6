"""Compilers and package managers of other languages, which a machine may lack."""

import os
import shutil

import pytest


def needs(*programs: str) -> None:
    """Skips the test if a program is missing; where `CI` is set, fails."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        line = f"needs {', '.join(missing)} on the PATH"
        pytest.fail(line) if os.environ.get("CI") else pytest.skip(line)
