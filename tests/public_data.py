"""The public data sets in tests: where they are missing a test may be skipped, but never in CI."""

import os
from pathlib import Path

import pytest

from sandbox.replay.public_data import MissingDataError, data_file


def require_data(*names: Path) -> list[Path]:
    """The paths of files of the data sets; skips the test, or fails it in CI, where one is missing."""
    try:
        return [data_file(name) for name in names]
    except MissingDataError as error:
        if "CI" in os.environ:
            raise
        pytest.skip(str(error))
