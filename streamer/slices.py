"""Encodes a request of many candidates in slices, between which its caller can go on. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from streamer.ads import FoundAds
from streamer.errors import InvalidRequestError
from streamer.features import Encoder
from streamer.types import BidRequest, EncodedRequest

NEW_ROWS = 384
"""More new candidates in rows, not memoised yet, than these are encoded in slices: they take 5 to 7 ms."""
COLUMN_ROWS = 768
"""The most candidates in columns that are encoded in one slice: about 4 ms."""
_ROWS = 256
_OF_CANDIDATES = (
    "candidate_ids", "candidate_floats", "pair_ids", "keys", "ad_keys", "candidate_numbers", "candidate_texts",
)  # fmt: skip


def are_needed(encoder: Encoder, request: BidRequest) -> bool:
    """Whether the encoding of a request takes too long for one piece."""
    if request.rows is None:
        return request.size > COLUMN_ROWS
    return request.size > NEW_ROWS and len(encoder.new(request.rows)) > NEW_ROWS


def encode(encoder: Encoder, request: BidRequest) -> Iterator[EncodedRequest | None]:
    """Encodes a slice at each step, and yields None; at the last step the encoded request.

    Raises:
        InvalidRequestError: as `Encoder.encode`.
    """
    if request.rows is None:
        yield from _encode_columns(encoder, request)
    else:
        new = encoder.new(request.rows)
        for start in range(0, len(new), _ROWS):
            rows = new[start : start + _ROWS]
            try:
                # Without the user and the context, whose row the last step encodes.
                encoder.encode(replace(request, fields={}, rows=rows, size=len(rows)))
            except InvalidRequestError:
                break  # the whole request raises it with the candidate's position, before it encodes anything
            yield None
        yield encoder.encode(request)


def _encode_columns(encoder: Encoder, request: BidRequest) -> Iterator[EncodedRequest | None]:
    parts: list[EncodedRequest] = []
    # All at once: the table can change between two slices, and an answer has one position.
    found = encoder.look_up(request.columns or {}, request.size)
    for start in range(0, request.size, COLUMN_ROWS):
        size = min(COLUMN_ROWS, request.size - start)
        rows = slice(start, start + size)
        columns = _slice(request.columns or {}, rows, request.size)
        ads = None if found is None else FoundAds(found.rows[rows], found.known[rows], found.position)
        try:
            before = encoder.out_of_range.copy()
            parts.append(encoder.encode(replace(request, columns=columns, size=size), ads))
            if start:
                _uncount(encoder, before)
        except InvalidRequestError:
            encoder.encode(request)  # raises it with the whole request's size and the candidate's position
            raise
        yield None
    unknown = None if found is None or found.known.all() else ~found.known
    yield msgspec.structs.replace(_joined(parts), unknown=unknown)


def _uncount(encoder: Encoder, before: Mapping[str, int]) -> None:
    """Counts the numbers of the user and the context in the first slice only."""
    for feature in encoder.spec.features:
        if encoder.out_of_range[feature.name] and getattr(feature, "side", "candidate") != "candidate":
            encoder.out_of_range[feature.name] = before.get(feature.name, 0)


def _slice(columns: Mapping[str, object], rows: slice, size: int) -> dict[str, object]:
    """The rows of columns; one of another length becomes a value that no column can be."""
    found: dict[str, object] = {}
    for key, column in columns.items():
        if isinstance(column, list):
            found[key] = column[rows] if len(column) == size else ""
        elif isinstance(column, dict):
            found[key] = _slice(column, rows, size)
        else:
            found[key] = column
    return found


def _joined(parts: list[EncodedRequest]) -> EncodedRequest:
    joined: dict[str, Any] = {"ad_ids": [ad_id for part in parts for ad_id in part.ad_ids]}
    for name in _OF_CANDIDATES:
        matrices = [getattr(part, name) for part in parts]
        joined[name] = None if matrices[0] is None else np.concatenate(matrices)
    return msgspec.structs.replace(parts[0], **joined)
