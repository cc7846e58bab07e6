"""Collisions of features' values in their buckets, and the file that has them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from model_training.errors import DataError, in_a_line

COLLISIONS = "collisions.json"


@dataclass(frozen=True, slots=True)
class Collisions:
    """The values of one feature in all rows of a log, and the buckets in which they meet.

    Attributes:
        buckets: number of buckets for values.
        values: number of distinct values that were seen.
        colliding_values: values that share their bucket with another one.
        rows: values in rows; for a feature with one value a row, the rows in which it is not missing.
        colliding_rows: those of the colliding values.
        outnumbered_rows: those of values that are not the most frequent one of their bucket, so that another value has
            decided most of their weights.
    """

    buckets: int
    values: int
    colliding_values: int
    rows: int
    colliding_rows: int
    outnumbered_rows: int

    @property
    def value_share(self) -> float:
        """The share of the values that share a bucket."""
        return self.colliding_values / max(1, self.values)

    @property
    def row_share(self) -> float:
        """The share of the rows that is affected."""
        return self.colliding_rows / max(1, self.rows)

    @property
    def outnumbered_share(self) -> float:
        """The share of the rows whose value is not the most frequent one of its bucket."""
        return self.outnumbered_rows / max(1, self.rows)

    def content(self) -> dict[str, Any]:
        """Counts and shares, as JSON values."""
        shares = ("value_share", "row_share", "outnumbered_share")
        return {**asdict(self), **{name: getattr(self, name) for name in shares}}


def write_collisions(directory: Path, found: Mapping[str, Collisions]) -> None:
    """Writes the collisions by feature name.

    Raises:
        OSError: the file cannot be written.
    """
    content = {name: collisions.content() for name, collisions in found.items()}
    (directory / COLLISIONS).write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def read_collisions(directory: Path) -> dict[str, Collisions]:
    """The collisions by feature name, in a folder that `prepare` made.

    Raises:
        DataError: the file is missing, as in a folder of an older program, or cannot be read.
    """
    path = directory / COLLISIONS
    try:
        content = orjson.loads(path.read_bytes())
        return {
            name: Collisions(**{field: found[field] for field in Collisions.__dataclass_fields__})
            for name, found in content.items()
        }
    except FileNotFoundError as error:
        raise DataError(f"{path}: does not exist: run `prepare` again, if this is a folder that it made") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {in_a_line(error)}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path}: not a report of collisions: {error!r}") from error
