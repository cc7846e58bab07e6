"""Cuts a table along its first axis into shards, and merges the shards for export; pure."""

from collections.abc import Iterator, Sequence

import numpy as np

from model_training.errors import DataError
from streamer.types import F32


def bounds(rows: int, shards: int) -> Iterator[tuple[int, int]]:
    """The first row and the end of each shard; the first `rows % shards` have one row more.

    Shards are adjacent. No shard is empty, so there are never more shards than rows.
    """
    shards = min(shards, rows)
    length, extra = divmod(rows, shards)
    start = 0
    for i in range(shards):
        end = start + length + (i < extra)
        yield start, end
        start = end


def shard_name(name: str, index: int) -> str:
    """The name of a table's shard."""
    return f"{name}/part_{index}"


def merge(name: str, shards: list[F32], shape: tuple[int, ...]) -> F32:
    """The whole variable from its shards in order, or from a single array.

    Raises:
        DataError: the result does not have `shape`.
    """
    check_shape(name, [shard.shape for shard in shards], shape)
    return shards[0] if len(shards) == 1 else np.concatenate(shards)


def check_shape(name: str, shards: Sequence[Sequence[int]], shape: Sequence[int]) -> None:
    """Rejects shards, by their shapes, that together do not have `shape`.

    Raises:
        DataError: names the variable and both shapes.
    """
    found = list(shards[0]) if len(shards) == 1 else [sum(shard[0] for shard in shards), *shards[0][1:]]
    if found != list(shape):
        raise DataError(f"variable {name!r}: has shape {found}, but the model needs {list(shape)}")
