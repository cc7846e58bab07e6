"""What every source of rows hands on to the encoding, and how a Spark error is told."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from model_training.errors import DataError
from streamer.types import F32, I32

if TYPE_CHECKING:
    import pyarrow as pa

KEY, TIME_MS, LABEL, REASON = "key", "time_ms", "label", "reason"
"""Columns that all rows have: text, int64 in ms since 1970, int32 0 or 1, and why the row is left out, or null."""


@dataclass(frozen=True, slots=True)
class Values:
    """n rows' values: by feature name, and for each row why it cannot be encoded, or None."""

    by_feature: Mapping[str, Sequence[object]]
    reasons: Sequence[str | None]


@dataclass(frozen=True, slots=True)
class Served:
    """n rows as they were encoded for serving: int32 [n, row_ids], float32 [n, row_floats]; `reasons` as above."""

    ids: I32
    floats: F32
    reasons: Sequence[str | None]


class Reader(Protocol):
    """Fetches the values of the features from rows, or what was made of them; runs where the rows are, so it must
    survive pickling."""

    def __call__(self, batch: "pa.RecordBatch") -> Values | Served:
        """The values of all rows of a batch, none of which has a reason yet."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A source's rows.

    Attributes:
        frame: a Spark DataFrame of `KEY`, `TIME_MS`, `LABEL`, `REASON`, and whatever `reader` reads.
        counts: what was counted on the way and is no row, by name.
    """

    frame: Any
    reader: Reader
    counts: Mapping[str, int] = field(default_factory=dict)


@contextmanager
def data_errors(what: str) -> Iterator[None]:
    """Turns what Spark says of files and rows into a `DataError` of one line."""
    try:
        yield
    except PySparkException as error:
        raise DataError(f"{what}: {first_line(error)}") from error
    except Py4JJavaError as error:
        raise DataError(f"{what}: {error.java_exception}") from error


def first_line(error: BaseException) -> str:
    """What a message of Spark's says: its first line, or the error in a task's Python; plans and traces follow it."""
    text = str(error).strip()
    _, traced, trace = text.rpartition("Traceback (most recent call last):\n")
    if traced:
        # Frames are indented, the error below them is not.
        return next((line for line in trace.splitlines() if line.strip() and not line[0].isspace()), text)
    return text.splitlines()[0] if text else type(error).__name__
