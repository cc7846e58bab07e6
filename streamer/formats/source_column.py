"""The column of sources in a JSON answer. Pure."""

from functools import lru_cache

import numpy as np
import orjson

from streamer.types import I8, SOURCES

_NAMES = np.array(SOURCES, dtype=np.object_)


def source_column(sources: I8) -> object:
    """The names of sources, int8 [n], for orjson; one source for all is the usual case."""
    first = int(sources[0])
    if sources.tobytes().count(first) != len(sources):
        return _NAMES.take(sources).tolist()
    return _same_source(first, len(sources))


@lru_cache(maxsize=32)
def _same_source(source: int, size: int) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps([SOURCES[source]] * size))
