"""Bytes of serialized `tf.Example`s, built from parts. Pure; no protobuf objects.

An Example holds a map from names to lists of values. On the wire a map is a sequence of entries, so an Example is a
head with the length of all entries, then the entries of the user and the context, then those of the candidate.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from streamer.types import F32

_HEADS = 2**12

Entry = Callable[[object], bytes | None]
"""The entry of one name with a value, or with a tuple of them; None without a value."""


def varint(value: int) -> bytes:
    """Protocol Buffers' varint of an integer in [-2^63, 2^64)."""
    value &= 2**64 - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def _entry(name: bytes, kind: int, values: bytes) -> bytes:
    """`Features.feature` of one name: kind 1 is a list of bytes, 2 of floats, 3 of integers."""
    return _field(1, _field(1, name) + _field(2, _field(kind, values)))


def bytes_entry(name: str) -> Entry:
    """A function that writes the entry of bytes."""
    return _writer(name, 1, lambda values: b"".join(_field(1, value) for value in values))


def int_entry(name: str) -> Entry:
    """A function that writes the entry of integers."""
    return _writer(name, 3, lambda values: _field(1, b"".join(map(varint, values))))


def _writer(name: str, kind: int, content: Callable[[tuple[Any, ...]], bytes]) -> Entry:
    key = name.encode()

    def write(values: object) -> bytes | None:
        some = values if isinstance(values, tuple) else (values,) if values is not None else ()
        return _entry(key, kind, content(some)) if some else None

    return write


def float_entries(name: str, values: F32) -> list[bytes]:
    """The entries of one float each, float32 [n]; NaN: no entry."""
    whole = _entry(name.encode(), 2, _field(1, bytes(4)))
    start = whole[:-4]
    data = values.astype("<f4").tobytes()
    present = (~np.isnan(values)).tolist()
    return [start + data[4 * i : 4 * i + 4] if present[i] else b"" for i in range(len(present))]


def _head(size: int) -> bytes:
    return b"\x0a" + varint(size)


_SHORT_HEADS = [_head(size) for size in range(_HEADS)]


def example(request: bytes, candidate: bytes) -> bytes:
    """The Example with these entries."""
    size = len(request) + len(candidate)
    return (_SHORT_HEADS[size] if size < _HEADS else _head(size)) + request + candidate
