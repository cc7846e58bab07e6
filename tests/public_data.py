"""Files of the public data sets for tests, which are skipped without them, but never in CI."""

import os
from pathlib import Path

import pytest

from sandbox.replay.public_data import MissingDataError, data_file


def require_data(*names: Path) -> list[Path]:
    """The paths of files of the data sets; skips the test, or fails it in CI, if one is missing."""
    try:
        return [data_file(name) for name in names]
    except MissingDataError as error:
        if "CI" in os.environ:
            raise
        pytest.skip(str(error))
