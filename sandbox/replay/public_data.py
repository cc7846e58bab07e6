"""Finds the files of the public data sets, which are not part of this project."""

import os
from pathlib import Path

from sandbox.errors import SandboxError

VARIABLE = "CTR_DATA"
DEFAULT = Path("../shared/data")
AVAZU = Path("avazu/stream_2days_23299.csv.gz")
BID_REQUESTS = (Path("bidreq/adx_requests.jsonl"), Path("bidreq/openrtb_requests.jsonl"))


class MissingDataError(SandboxError):
    """A file of a data set is missing; the message has its expected path."""


def data_folder() -> Path:
    """The folder in `CTR_DATA`, or the default."""
    return Path(os.environ.get(VARIABLE, DEFAULT))


def data_file(name: Path, folder: Path | None = None) -> Path:
    """The path of one file of the data sets.

    Raises:
        MissingDataError: the file does not exist.
    """
    path = (folder or data_folder()) / name
    if not path.is_file():
        raise MissingDataError(f"{path} does not exist: set {VARIABLE} to the folder that contains {name}")
    return path
