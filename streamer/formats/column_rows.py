"""Turns columns of JSON into rows, without reading a value of a known ad."""

from collections.abc import Mapping, Sequence

import msgspec
import orjson
import xxhash

from streamer.features.candidate_rows import DigestedRows, row_digests
from streamer.features.paths import parse_path
from streamer.formats.candidates import Candidates

_MAX_BYTES = 8 * 2**20
_MAX_SHAPES = 16
_MAX_REMEMBERED = 500  # ads of one request: about 1 ms
_FEWEST_BY_ID = 5
_ENTRY_BYTES = 250  # of an ad: its entry, its row's digest, and the object of its id
_TOKEN_BYTES = 100  # of a text: its entry and its object
_POINTER_BYTES = 8

_Entry = tuple[bytes, ...]
"""The digest of an ad's row, then the texts of its values."""


class ColumnRows:
    """The rows of columns: the texts of an ad's values, joined by commas.

    It remembers the digest of the row and the texts of each ad, for each order of columns. If the texts of a request's
    ads, joined, are exactly its columns, its rows have the remembered digests. Otherwise the columns are split at their
    commas.

    Invariants: (1) the object of row i has exactly the values i of the columns; (2) `used_bytes`, of what it remembers,
    is at most `max_bytes`; then all is dropped.
    """

    def __init__(
        self, ad_id: str, keys: frozenset[str] | None = None, max_bytes: int = _MAX_BYTES, *, by_id: bool = False
    ) -> None:
        """`ad_id`: the path of the ad id; `keys`: those of the columns that are read; None: all.

        `by_id`: a table has the values of ads, and few columns are read at once: they differ in each request.
        """
        self._ad_id, *inner = parse_path(ad_id)
        self._is_flat = not inner
        self._fewest = _FEWEST_BY_ID if by_id else 0
        self._keys = None if keys is None else keys | {self._ad_id}
        self._max_bytes = max_bytes
        self._shapes: dict[tuple[str, ...], _Shape] = {}
        self._texts: dict[bytes, bytes] = {}
        self.used_bytes = 0

    def candidates(self, columns: Mapping[str, msgspec.Raw]) -> Candidates:
        """The rows of columns, or their values.

        They are values if a column is not a list, has another length than the ad ids or a value with a comma, or if
        most rows have changed since they were remembered.

        Raises:
            ValueError: a column is not valid JSON.
        """
        keys = self._keys
        texts = {key: bytes(text) for key, text in columns.items() if keys is None or key in keys}
        if (
            self._is_flat
            and len(texts) >= self._fewest
            and self._ad_id in texts
            and (found := self._rows(texts)) is not None
        ):
            return found
        values: dict[str, object] = {}
        for key, text in texts.items():
            try:
                values[key] = msgspec.json.decode(text)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise ValueError(f"{key}: not valid JSON: {error}") from None
        return Candidates(columns=values)

    def _rows(self, columns: Mapping[str, bytes]) -> Candidates | None:
        names = tuple(columns)
        shape = self._shapes.get(names)
        if shape is None:
            if len(self._shapes) >= _MAX_SHAPES:
                self._forget()
            shape = self._shapes[names] = _Shape(names)
        texts = list(columns.values())
        ads = columns[self._ad_id][1:-1].split(b",")
        entries = list(map(shape.known.get, ads))
        known = [entry for entry in entries if entry is not None]
        if len(known) == len(ads):
            digests, *expected = zip(*known, strict=True)
            if list(map(_column, expected)) == texts:
                return Candidates(DigestedRows(digests, lambda i: shape.row(known[i][1:])), shape.read)
        split = self._split(shape, texts, ads, entries)
        return None if split is None else Candidates(split, shape.read)

    def _split(
        self, shape: "_Shape", texts: Sequence[bytes], ads: Sequence[bytes], entries: Sequence[_Entry | None]
    ) -> Sequence[bytes] | None:
        """The rows by the commas: if a column of n values has n parts, its parts are its values."""
        columns = [text[1:-1].split(b",") for text in texts]
        n = len(ads)
        if any(len(column) != n or text[:1] != b"[" for column, text in zip(columns, texts, strict=True)):
            return None
        if None in entries and _length(_column(ads)) != n:
            return None
        values = list(zip(*columns, strict=True))
        rows = list(map(shape.row, values))
        digests = row_digests(rows)
        changed = [i for i, entry in enumerate(entries) if entry is not None and entry[0] != digests[i]]
        if len(changed) > n // 2:  # a value that differs in each request: to encode columns costs less than new rows
            return None
        unknown = [i for i, entry in enumerate(entries) if entry is None]
        for i in (changed + unknown)[:_MAX_REMEMBERED]:
            self._remember(shape.known, ads[i], digests[i], values[i])
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
        self._shapes, self._texts, self.used_bytes = {}, {}, 0


class _Shape:
    """An order of columns, and the known ads with such columns."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self.known: dict[bytes, _Entry] = {}
        self._prefix = b"\1" + xxhash.xxh3_128_digest(repr(names).encode(errors="surrogatepass"))

    def row(self, values: Sequence[bytes]) -> bytes:
        """The row of values."""
        return self._prefix + b",".join(values)

    def read(self, row: bytes) -> object:
        """The candidate of a row.

        Raises:
            ValueError: a part of the row is no JSON value; otherwise it has one value for each column.
        """
        try:
            values = orjson.loads(b"[%b]" % row[len(self._prefix) :])
        except orjson.JSONDecodeError:
            values = ()
        if len(values) != len(self._names):
            raise ValueError("expected columns with one valid value for each ad id")
        return dict(zip(self._names, values, strict=True))


def _column(texts: Sequence[bytes]) -> bytes:
    return b"[%b]" % b",".join(texts)


def _length(column: bytes) -> int:
    try:
        return len(orjson.loads(column))
    except orjson.JSONDecodeError:
        return -1
