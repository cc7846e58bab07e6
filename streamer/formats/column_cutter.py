"""Cuts columns of JSON into rows."""

from collections.abc import Sequence
from typing import Protocol

import orjson

from streamer import native
from streamer.features.candidate_rows import ROW_SEED, DigestedRows, row_digests

_MAX_BYTES = 8 * 2**20
_MAX_SHAPES = 16
_MAX_REMEMBERED = 500  # ads of one request: about 1 ms
_REMEMBER_EVERY = 16
_ENTRY_BYTES = 250  # of an ad: its entry, its row's digest, and the object of its id
_TOKEN_BYTES = 100  # of a text: its entry and its object
_POINTER_BYTES = 8

_Entry = tuple[bytes, ...]
"""The digest of an ad's row, then the texts of its values."""


class ColumnCutter(Protocol):
    """Cuts columns into rows: a prefix, then the texts of a candidate's values with commas.

    Invariants: (1) row i has exactly the values i of the columns; (2) what it remembers has a bound.
    """

    def rows(self, prefix: bytes, columns: Sequence[bytes], ad_id: int) -> Sequence[bytes] | None:
        """The rows of columns of valid JSON; `ad_id`: which of them has the ad ids.

        None: a column is no list or has another length than the ad ids, a value has a comma, or most rows have changed
        since they were remembered. Values that differ in each request are such: to encode columns then costs less than
        new rows.
        """


def column_cutter() -> ColumnCutter:
    """A cutter that remembers nothing; compiled if possible."""
    return PythonColumnCutter() if native.module is None else NativeColumnCutter()


class NativeColumnCutter:
    """Implements `ColumnCutter` by compiled code.

    It remembers digests alone, in a table of fixed size. The columns may be no JSON: it makes rows of plain values
    only.
    """

    def __init__(self) -> None:
        assert native.module is not None
        self._cutter = native.module.ColumnCutter(ROW_SEED)

    def rows(self, prefix: bytes, columns: Sequence[bytes], ad_id: int) -> Sequence[bytes] | None:
        found = self._cutter.rows(prefix, columns, ad_id)
        if found is None:
            return None
        digests, rows = found
        return DigestedRows(digests, rows.__getitem__)


class PythonColumnCutter:
    """Implements `ColumnCutter`.

    It remembers the digest of the row and the texts of each ad, for each prefix. If the texts of a request's ads,
    joined, are exactly its columns, its rows have the remembered digests. Otherwise the columns are split at their
    commas; with a comma in a value there are no rows.

    Invariant: `used_bytes`, of what it remembers, is at most `max_bytes`; then all is dropped.
    """

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._known: dict[bytes, dict[bytes, _Entry]] = {}
        self._texts: dict[bytes, bytes] = {}
        self._refused = 0
        self.used_bytes = 0

    def rows(self, prefix: bytes, columns: Sequence[bytes], ad_id: int) -> Sequence[bytes] | None:
        known = self._known.get(prefix)
        if known is None:
            if len(self._known) >= _MAX_SHAPES:
                self._forget()
            known = self._known[prefix] = {}
        ads = columns[ad_id][1:-1].split(b",")
        entries = list(map(known.get, ads))
        found = [entry for entry in entries if entry is not None]
        if len(found) == len(ads):
            digests, *expected = zip(*found, strict=True)
            if list(map(_column, expected)) == columns:
                return DigestedRows(digests, lambda i: _row(prefix, found[i][1:]))
        return self._split(prefix, known, columns, ads, entries)

    def _split(
        self,
        prefix: bytes,
        known: dict[bytes, _Entry],
        texts: Sequence[bytes],
        ads: Sequence[bytes],
        entries: Sequence[_Entry | None],
    ) -> Sequence[bytes] | None:
        """The rows by the commas, if each column of n values has n parts: then they are its values."""
        columns = [text[1:-1].split(b",") for text in texts]
        n = len(ads)
        if any(len(column) != n or text[:1] != b"[" for column, text in zip(columns, texts, strict=True)):
            return None
        values = list(zip(*columns, strict=True))
        rows = [_row(prefix, one) for one in values]
        digests = row_digests(rows)
        changed = [i for i, entry in enumerate(entries) if entry is not None and entry[0] != digests[i]]
        if (changed or None in entries) and any(_length(text) != n for text in texts):  # a comma in a value
            return None
        if len(changed) > n // 2:
            self._refused += 1
            if self._refused % _REMEMBER_EVERY == 0:  # perhaps they have changed once for all
                for i in changed[:_MAX_REMEMBERED]:
                    self._remember(known, ads[i], digests[i], values[i])
            return None
        unknown = [i for i, entry in enumerate(entries) if entry is None]
        for i in (changed + unknown)[:_MAX_REMEMBERED]:
            self._remember(known, ads[i], digests[i], values[i])
        return DigestedRows(digests, rows.__getitem__)

    def _remember(self, known: dict[bytes, _Entry], ad: bytes, digest: bytes, values: Sequence[bytes]) -> None:
        texts = self._texts
        if ad not in known:
            self.used_bytes += _ENTRY_BYTES + len(ad)
        self.used_bytes += _POINTER_BYTES * len(values)
        before = len(texts)
        # The texts of equal values are one object: 300 ads then read little memory.
        known[ad] = (digest, *[texts.setdefault(value, value) for value in values])
        if len(texts) > before:
            self.used_bytes += (len(texts) - before) * _TOKEN_BYTES + sum(map(len, values))
        if self.used_bytes > self._max_bytes:
            self._forget()

    def _forget(self) -> None:
        self._known, self._texts, self.used_bytes = {}, {}, 0


def _row(prefix: bytes, values: Sequence[bytes]) -> bytes:
    return prefix + b",".join(values)


def _column(texts: Sequence[bytes]) -> bytes:
    return b"[%b]" % b",".join(texts)


def _length(column: bytes) -> int:
    try:
        return len(orjson.loads(column))
    except orjson.JSONDecodeError:
        return -1
