"""Encoded rows in memory, within bounds."""

import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import xxhash

from streamer import native

_EVICTED_SHARE = 8
_ENTRY_BYTES = 250  # of a dict entry, its key and the tuple in it
_TEXT_BYTES = 80  # of a text without characters


Matrices = Mapping[str, npt.NDArray[Any]]
"""Matrices of n rows by name, [n, ...]."""
Digests = Sequence[bytes]
"""Digests of 16 bytes, by `digests_of`."""
Encode = Callable[[list[int]], tuple[Matrices, Sequence[object]]]
"""Encodes the rows in these places; returns their matrices, and for each row what is kept beside it."""


def digests_of(rows: Sequence[bytes], seed: int) -> Digests:
    """The 128-bit XXH3 hashes of rows."""
    if native.module is not None:
        digests: Digests = native.module.Digests(rows if isinstance(rows, list) else list(rows), seed)
        return digests
    return list(map(xxhash.xxh3_128_digest, rows, repeat(seed)))


class RowForm:
    """The form of an encoded row in memory: the bytes of its part of each matrix."""

    def __init__(self, parts: Matrices) -> None:
        """`parts`: the matrices, [0, ...]."""
        self._shapes = {name: part.shape[1:] for name, part in parts.items()}
        self.dtype = np.dtype([(name, part.dtype, part.shape[1:]) for name, part in parts.items()], align=True)
        assert self.dtype.fields is not None
        self.parts = [(offset, part.itemsize) for part, offset, *_ in self.dtype.fields.values()]

    def rows(self, parts: Matrices) -> list[bytes]:
        """The rows of these matrices."""
        table = np.zeros(len(next(iter(parts.values()))), self.dtype)
        for name in parts:
            table[name] = parts[name]
        data, size = table.tobytes(), self.dtype.itemsize
        return [data[start : start + size] for start in range(0, len(data), size)]

    def matrices(self, rows: Sequence[bytes]) -> Matrices:
        """The matrices of these rows."""
        table = np.frombuffer(b"".join(rows), self.dtype)
        # With the whole table instead of copies, a request in flight would hold all of it.
        return {name: table[name].copy() for name in self._shapes}

    def of_buffers(self, buffers: Sequence[bytearray], n: int) -> Matrices:
        """The matrices of n rows whose bytes are in these buffers."""
        found = {}
        for (name, shape), buffer in zip(self._shapes.items(), buffers, strict=True):
            found[name] = np.frombuffer(buffer, self.dtype[name].base).reshape(n, *shape)
        return found


class RowMemo(Protocol):
    """Encoded rows by the digest of what they encode. It evicts the oldest ones first.

    Invariants: (1) it holds at most `capacity` rows; (2) `used_bytes`, of keys and rows, is at most `max_bytes`.
    """

    @property
    def used_bytes(self) -> int: ...
    def __len__(self) -> int: ...

    def empty(self) -> "RowMemo":
        """A memo with the same bounds."""

    def has_room_for(self, count: int) -> bool:
        """Whether it can hold `count` rows at once, if their bytes fit."""

    def unknown(self, digests: Digests) -> list[int]:
        """The first place of each digest without a row."""

    def gather(self, form: RowForm, digests: Digests, encode: Encode) -> tuple[Matrices, list[Any]]:
        """The rows with these digests, and what is kept beside each of them.

        `encode` makes those without a row. They are added, unless all of them together do not fit.
        """


def row_memo(capacity: int, max_bytes: int) -> RowMemo:
    """An empty memo; compiled if possible."""
    kind = PythonRowMemo if native.module is None else NativeRowMemo
    return kind(capacity, max_bytes)


class NativeRowMemo:
    """Implements `RowMemo` by compiled code."""

    def __init__(self, capacity: int, max_bytes: int) -> None:
        assert native.module is not None
        self._bounds = (capacity, max_bytes)
        self._memo = native.module.RowMemo(capacity, max_bytes)

    @property
    def used_bytes(self) -> int:
        return int(self._memo.used_bytes)

    def __len__(self) -> int:
        return len(self._memo)

    def empty(self) -> "NativeRowMemo":
        return NativeRowMemo(*self._bounds)

    def has_room_for(self, count: int) -> bool:
        return count <= self._bounds[0]

    def unknown(self, digests: Digests) -> list[int]:
        places: list[int] = self._memo.unknown(digests)
        return places

    def gather(self, form: RowForm, digests: Digests, encode: Encode) -> tuple[Matrices, list[Any]]:
        new: list[tuple[bytes, object, int]] = []
        if places := self.unknown(digests):
            parts, kept = encode(places)
            new = [(row, one, _bytes_of(row, one)) for row, one in zip(form.rows(parts), kept, strict=True)]
        buffers, extras = self._memo.gather(digests, form.dtype.itemsize, form.parts, places, new)
        return form.of_buffers(buffers, len(digests)), extras


class PythonRowMemo:
    """Implements `RowMemo`."""

    def __init__(self, capacity: int, max_bytes: int) -> None:
        self._capacity = capacity
        self._max_bytes = max_bytes
        self._known: dict[bytes, tuple[bytes, object]] = {}
        self.used_bytes = 0

    def __len__(self) -> int:
        return len(self._known)

    def empty(self) -> "PythonRowMemo":
        return PythonRowMemo(self._capacity, self._max_bytes)

    def has_room_for(self, count: int) -> bool:
        return count <= self._capacity

    def unknown(self, digests: Digests) -> list[int]:
        return list(_first_places(digests, list(map(self._known.get, digests))).values())

    def gather(self, form: RowForm, digests: Digests, encode: Encode) -> tuple[Matrices, list[Any]]:
        found: list[Any] = list(map(self._known.get, digests))
        if first := _first_places(digests, found):
            parts, kept = encode(list(first.values()))
            new = dict(zip(first, zip(form.rows(parts), kept, strict=True), strict=True))
            self._add(new)
            found = [new[digest] if row is None else row for digest, row in zip(digests, found, strict=True)]
        return form.matrices([row for row, _ in found]), [one for _, one in found]

    def _add(self, new: Mapping[bytes, tuple[bytes, object]]) -> None:
        size = sum(_bytes_of(*row) for row in new.values())
        if len(new) > self._capacity or size > self._max_bytes:
            return
        if len(self._known) + len(new) > self._capacity or self.used_bytes + size > self._max_bytes:
            self._make_room(len(new), size)
        self._known.update(new)
        self.used_bytes += size

    def _make_room(self, count: int, size: int) -> None:
        rows_left = self._capacity - max(count, self._capacity // _EVICTED_SHARE)
        bytes_left = self._max_bytes - max(size, self._max_bytes // _EVICTED_SHARE)
        evicted: list[bytes] = []
        for key, row in self._known.items():
            if len(self._known) - len(evicted) <= rows_left and self.used_bytes <= bytes_left:
                break
            evicted.append(key)
            self.used_bytes -= _bytes_of(*row)
        for key in evicted:
            del self._known[key]


def _first_places(digests: Sequence[bytes], rows: Sequence[object]) -> dict[bytes, int]:
    """By digest, the first place in which the row is None; empty if no row is."""
    if all(rows):
        return {}
    found: dict[bytes, int] = {}
    for i, (digest, row) in enumerate(zip(digests, rows, strict=True)):
        if row is None:
            found.setdefault(digest, i)
    return found


def _bytes_of(row: bytes, kept: object) -> int:
    """What an entry takes in memory, with its digest."""
    return sys.getsizeof(row) + _size(kept) + _ENTRY_BYTES


def _size(value: object) -> int:
    """Bytes of a text, or of a tuple with its items."""
    if isinstance(value, str) and not value.isascii():
        # Four bytes a character, and four more for the UTF-8 form that a message adds later.
        return _TEXT_BYTES + 8 * len(value)
    size = sys.getsizeof(value)
    return size + sum(map(_size, value)) if isinstance(value, tuple) else size
