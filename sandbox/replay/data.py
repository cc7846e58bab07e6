"""Where the public data sets are, and what is said where they are not. They are no part of this project."""

import os
from pathlib import Path

VARIABLE = "CTR_DATA"
DEFAULT = Path("../shared/data")
AVAZU = Path("avazu/stream_2days_23299.csv.gz")
BID_REQUESTS = (Path("bidreq/adx_requests.jsonl"), Path("bidreq/openrtb_requests.jsonl"))


class MissingDataError(Exception):
    """A data set is not where it is expected; the message says what is expected where."""


def data_folder() -> Path:
    """The folder that `CTR_DATA` names, or the default."""
    return Path(os.environ.get(VARIABLE, DEFAULT))


def data_file(name: Path, folder: Path | None = None) -> Path:
    """The path of one file of the data sets.

    Raises:
        MissingDataError: it is not there.
    """
    path = (folder or data_folder()) / name
    if not path.is_file():
        raise MissingDataError(f"{path} is expected, and is not there: set {VARIABLE} to the folder that holds {name}")
    return path
