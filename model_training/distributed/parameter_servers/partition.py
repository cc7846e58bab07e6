"""How a table is cut along its first axis for several servers, and put together again for export."""

from collections.abc import Iterator

import numpy as np

from model_training.errors import DataError
from streamer.types import F32


def bounds(rows: int, shards: int) -> Iterator[tuple[int, int]]:
    """First row and end of each shard: adjacent ones, of which the first `rows % shards` have one row more.

    There are no empty shards, hence never more than rows.
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
    """The whole variable of its shards in order, or of itself alone.

    Raises:
        DataError: they do not make up `shape`.
    """
    whole = shards[0] if len(shards) == 1 else np.concatenate(shards)
    if whole.shape != shape:
        raise DataError(f"variable {name!r}: has shape {list(whole.shape)} where the model needs {list(shape)}")
    return whole
