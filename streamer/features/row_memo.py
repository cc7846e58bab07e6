"""Encoded rows in memory, within bounds."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_EVICTED_SHARE = 8
_ENTRY_BYTES = 128  # of a dict entry
_TEXT_BYTES = 80  # of a text without characters


class RowBytes:
    """The form of an encoded row in memory: the bytes of its part of each matrix."""

    def __init__(self, parts: Mapping[str, npt.NDArray[Any]]) -> None:
        """`parts`: the matrices by name, [0, ...]."""
        self._dtype = np.dtype([(name, part.dtype, part.shape[1:]) for name, part in parts.items()], align=True)

    def rows(self, parts: Mapping[str, npt.NDArray[Any]]) -> list[bytes]:
        """The rows of these matrices, [n, ...]."""
        table = np.zeros(len(next(iter(parts.values()))), self._dtype)
        for name in parts:
            table[name] = parts[name]
        data, size = table.tobytes(), self._dtype.itemsize
        return [data[start : start + size] for start in range(0, len(data), size)]

    def table(self, rows: Sequence[bytes]) -> npt.NDArray[np.void]:
        """A table of these rows, read-only, with the matrices as its fields."""
        return np.frombuffer(b"".join(rows), self._dtype)


class RowMemo:
    """Encoded rows by the digest of what they encode. It evicts the oldest ones first.

    Invariants: (1) it holds at most `capacity` rows; (2) `used_bytes`, of keys and rows, is at most `max_bytes`.

    Attributes:
        known: the rows; only `add` changes it.
    """

    def __init__(self, capacity: int, max_bytes: int) -> None:
        self._capacity = capacity
        self._max_bytes = max_bytes
        self.known: dict[bytes, Any] = {}
        self.used_bytes = 0

    def empty(self) -> "RowMemo":
        """A memo with the same bounds: one holds rows of one form."""
        return RowMemo(self._capacity, self._max_bytes)

    def has_room_for(self, count: int) -> bool:
        """Whether it can hold `count` rows at once, if their bytes fit."""
        return count <= self._capacity

    def add(self, new: Mapping[bytes, object]) -> None:
        """Adds rows that are not known; none if all of them together do not fit."""
        size = sum(_size(key) + _size(row) + _ENTRY_BYTES for key, row in new.items())
        if len(new) > self._capacity or size > self._max_bytes:
            return
        if len(self.known) + len(new) > self._capacity or self.used_bytes + size > self._max_bytes:
            self._make_room(len(new), size)
        self.known.update(new)
        self.used_bytes += size

    def _make_room(self, count: int, size: int) -> None:
        rows_left = self._capacity - max(count, self._capacity // _EVICTED_SHARE)
        bytes_left = self._max_bytes - max(size, self._max_bytes // _EVICTED_SHARE)
        evicted: list[bytes] = []
        for key, row in self.known.items():
            if len(self.known) - len(evicted) <= rows_left and self.used_bytes <= bytes_left:
                break
            evicted.append(key)
            self.used_bytes -= _size(key) + _size(row) + _ENTRY_BYTES
        for key in evicted:
            del self.known[key]


def first_places(digests: Sequence[bytes], rows: Sequence[object]) -> dict[bytes, int]:
    """By digest, the first place in which the row is None; empty if no row is."""
    if all(rows):
        return {}
    found: dict[bytes, int] = {}
    for i, (digest, row) in enumerate(zip(digests, rows, strict=True)):
        if row is None:
            found.setdefault(digest, i)
    return found


def _size(value: object) -> int:
    """Bytes of a text, or of a tuple with its items."""
    if isinstance(value, str) and not value.isascii():
        # Four bytes a character, and four more for the UTF-8 form that a message adds later.
        return _TEXT_BYTES + 8 * len(value)
    size = sys.getsizeof(value)
    return size + sum(map(_size, value)) if isinstance(value, tuple) else size
