"""Writes requests in binary, as a bidder would, for the tests."""

import math
from collections.abc import Iterable, Mapping, Sequence

import orjson

from streamer.formats.ctr_pb2 import BidRequest, Candidate, Column, Texts
from streamer.types import Header

BINARY: tuple[Header, ...] = (("content-type", b"application/x-protobuf"),)


def texts_of(lists: Iterable[Sequence[str]]) -> list[Texts]:
    return [Texts(values=values) for values in lists]


def by_candidates(
    document: Mapping[str, object],
    *,
    texts: Mapping[str, Sequence[str]],
    numbers: Mapping[str, Sequence[float]] | None = None,
    lists: Mapping[str, Sequence[Sequence[str]]] | None = None,
) -> bytes:
    """A request of candidates; the values are given by path, one for each candidate."""
    numbers, lists = numbers or {}, lists or {}
    size = max(map(len, texts.values()), default=0)
    candidates = [
        Candidate(
            texts=[column[i] for column in texts.values()],
            numbers=[column[i] for column in numbers.values()],
            lists=texts_of([column[i] for column in lists.values()]),
        ).SerializeToString()
        for i in range(size)
    ]
    return BidRequest(
        document=orjson.dumps(document),
        text_paths=list(texts),
        number_paths=list(numbers),
        list_paths=list(lists),
        candidates=candidates,
    ).SerializeToString()


def by_columns(
    document: Mapping[str, object],
    *,
    texts: Mapping[str, Sequence[str]],
    numbers: Mapping[str, Sequence[float]] | None = None,
    lists: Mapping[str, Sequence[Sequence[str]]] | None = None,
) -> bytes:
    """The same request of columns."""
    columns = [Column(path=path, texts=column) for path, column in texts.items()]
    columns += [Column(path=path, numbers=column) for path, column in (numbers or {}).items()]
    columns += [Column(path=path, lists=texts_of(column)) for path, column in (lists or {}).items()]
    return BidRequest(document=orjson.dumps(document), columns=columns).SerializeToString()


def json_value(value: object) -> object:
    """The JSON of a value in binary: null for NaN and for the empty text."""
    return None if value == "" or (isinstance(value, float) and math.isnan(value)) else value
