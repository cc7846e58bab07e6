"""Rows as every source passes them to the encoding, and the conversion of Spark's errors."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import functions as f

from model_training.errors import DataError
from streamer.types import F32, I32

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import Column

_HASHES = 2.0**63

KEY, TIME_MS, LABEL, REASON = "key", "time_ms", "label", "reason"
"""Columns of all rows: text, int64 in ms since 1970, int32 0 or 1, and the reason to drop the row, or null."""

WEIGHT = "weight"
"""Column of the rows of a source with weights, float64."""


@dataclass(frozen=True, slots=True)
class Values:
    """The values of n rows.

    Attributes:
        by_feature: columns of n values by feature name.
        reasons: why a row cannot be encoded, or None.
        denied: whether a row denies consent, so that its user features and its user's id count as missing.
        users, requests: ids of the rows' users and requests; None for a missing one.
    """

    by_feature: Mapping[str, Sequence[object]]
    reasons: Sequence[str | None]
    denied: Sequence[bool]
    users: Sequence[object]
    requests: Sequence[object]


@dataclass(frozen=True, slots=True)
class Served:
    """n rows that the scorer encoded: int32 [n, row_ids] and float32 [n, row_floats].

    `reasons` and `requests` are as in `Values`.
    """

    ids: I32
    floats: F32
    reasons: Sequence[str | None]
    requests: Sequence[object]


class Reader(Protocol):
    """Reads the features' values, or encoded rows, from a batch.

    It runs in Spark's workers, so it can be pickled.
    """

    def __call__(self, batch: "pa.RecordBatch") -> Values | Served:
        """The values of all rows of a batch; no row has a reason yet."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A source's rows.

    Attributes:
        frame: a Spark DataFrame with `KEY`, `TIME_MS`, `LABEL`, `REASON`, and the columns that `reader` reads.
        counts: counts of things that are not rows, by name.
        requests: JSON of requests, in the only column of a Spark DataFrame; None if the source has none.
        no_faults: reasons to drop a row that are no faults of the log or of the config.
    """

    frame: Any
    reader: Reader
    counts: Mapping[str, int] = field(default_factory=dict)
    no_faults: frozenset[str] = frozenset()
    requests: Any = None


@contextmanager
def data_errors(what: str) -> Iterator[None]:
    """Converts Spark's errors about files and rows to a `DataError` of one line."""
    try:
        yield
    except PySparkException as error:
        raise DataError(f"{what}: {first_line(error)}") from error
    except Py4JJavaError as error:
        raise DataError(f"{what}: {error.java_exception}") from error


def share_hash(seed: object, key: "Column") -> "Column":
    """A hash of `seed` and a row's key, in [0, 1): it chooses the same rows in each run."""
    return f.xxhash64(f.lit(seed), key).bitwiseAND(f.lit(2**63 - 1)).cast("double") / _HASHES


def first_line(error: BaseException) -> str:
    """The useful line of a Spark message: its first line, or the Python error of a task.

    Query plans and stack traces follow it.
    """
    text = str(error).strip()
    _, traced, trace = text.rpartition("Traceback (most recent call last):\n")
    if traced:
        # Stack frames are indented; the error after them is not.
        return next((line for line in trace.splitlines() if line.strip() and not line[0].isspace()), text)
    return text.splitlines()[0] if text else type(error).__name__
