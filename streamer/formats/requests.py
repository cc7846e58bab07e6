"""Reads binary requests."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import xxhash
from google.protobuf.message import DecodeError

from streamer.errors import SpecError
from streamer.features.paths import parse_path
from streamer.formats.candidates import Candidates
from streamer.formats.ctr_pb2 import BidRequest, Candidate, Texts

_MAX_SCHEMAS = 64
_MAX_SCHEMA_CHARS = 2**14
# A path of a few bytes costs time for each candidate. JSON repeats its keys, so its bytes bound that time.
_MAX_PATHS = 1024
_MAX_KEYS = 16
# The document is the first field in the bytes that every library writes.
_DOCUMENT_FIRST = re.compile(rb"\x0a[\x80-\xff]{0,4}[\x00-\x7f](?=\s*\{)")

Document = dict[str, object]


@dataclass(frozen=True, slots=True)
class BinaryRequest:
    """The parts of a binary request.

    Attributes:
        document: JSON of the request without its candidates.
        candidates: rows behind the key of their schema and its `document`, or columns.
    """

    document: bytes
    candidates: Candidates


class CandidateSchema:
    """The paths of the values in serialised candidates.

    Attributes:
        key: 17 bytes, which differ for other paths. No JSON begins with the first one.
    """

    def __init__(self, texts: Sequence[str], numbers: Sequence[str], lists: Sequence[str]) -> None:
        """Raises ValueError: a path cannot be read, or two of them are in conflict."""
        paths = (*texts, *numbers, *lists)
        self._paths = [_keys(path) for path in paths]
        _nested(self._paths, paths)
        self._is_flat = all(len(keys) == 1 for keys in self._paths)
        self._names = paths
        self._counts = (len(texts), len(numbers), len(lists))
        self.key = b"\0" + xxhash.xxh3_128_digest(repr((texts, numbers, lists)).encode(errors="surrogatepass"))

    def document(self, row: bytes) -> Document:
        """The candidate as a JSON parser would return it; `row` is its bytes behind `key`.

        Raises:
            ValueError: the bytes are no Candidate, or do not have one value for each path.
        """
        try:
            candidate = Candidate.FromString(row[len(self.key) :])
        except DecodeError:
            raise ValueError("not valid Protobuf: expected a ctr.v1.Candidate") from None
        texts, numbers, lists = candidate.texts, candidate.numbers, candidate.lists
        if (len(texts), len(numbers), len(lists)) != self._counts:
            of_paths = "{} texts, {} numbers and {} lists".format(*self._counts)
            got = f"{len(texts)}, {len(numbers)} and {len(lists)}"
            raise ValueError(f"expected {of_paths}, as many as there are paths, got {got}")
        values = [*texts[:], *numbers[:], *_lists(lists)]  # a slice is a list, made at once
        if self._is_flat:
            return dict(zip(self._names, values, strict=True))
        return _nested(self._paths, values)


class BinaryRequests:
    """Reads requests; it keeps the schemas of recent ones, at most 64 of 16 KiB each.

    More than `max_candidates` candidates are counted only: the caller rejects them.
    """

    def __init__(self, max_candidates: int) -> None:
        self._max_candidates = max_candidates
        self._schemas: dict[tuple[tuple[str, ...], ...], CandidateSchema] = {}

    def read(self, value: bytes) -> BinaryRequest:
        """Reads a request. A candidate's content is not read; `CandidateSchema.document` does that.

        Raises:
            ValueError: the record cannot be read; it names the field.
        """
        try:
            message = BidRequest.FromString(value)
        except DecodeError:
            raise ValueError("record: not valid Protobuf: expected a ctr.v1.BidRequest") from None
        document = message.document or b"{}"
        if message.columns:
            if message.candidates:
                raise ValueError("candidates: expected either candidates or columns, got both")
            return BinaryRequest(document, Candidates(columns=_columns(message, self._max_candidates)))
        schema = self._schema(tuple(message.text_paths), tuple(message.number_paths), tuple(message.list_paths))
        key = schema.key
        if len(message.candidates) > self._max_candidates:
            return BinaryRequest(document, Candidates(message.candidates, schema.document))
        rows = [key + candidate for candidate in message.candidates]
        return BinaryRequest(document, Candidates(rows, schema.document))

    def _schema(self, *paths: tuple[str, ...]) -> CandidateSchema:
        known = self._schemas.get(paths)
        if known is None:
            try:
                _check_number(sum(map(len, paths)))
                known = CandidateSchema(*paths)
            except ValueError as error:
                raise ValueError(f"text_paths, number_paths, list_paths: {error}") from None
            if len(self._schemas) >= _MAX_SCHEMAS:
                self._schemas.clear()
            if sum(len(path) for kind in paths for path in kind) <= _MAX_SCHEMA_CHARS:
                self._schemas[paths] = known
        return known


def document_in(value: bytes) -> bytes:
    """The rest of a damaged request from its document on; empty if that is not the first field."""
    match = _DOCUMENT_FIRST.match(value)
    return b"" if match is None else value[match.end() :]


def _columns(message: BidRequest, max_candidates: int) -> Document:
    try:
        _check_number(len(message.columns))
    except ValueError as error:
        raise ValueError(f"columns: {error}") from None
    names: list[str] = []
    values: list[object] = []
    for column in message.columns:
        kinds = [kind for kind in (column.texts, column.numbers, column.lists) if kind]
        if len(kinds) > 1:
            raise ValueError(f"columns: {column.path!r:.60}: expected one of texts, numbers and lists")
        names.append(column.path)
        # One list too many shows that the column is too long.
        values.append(_lists(column.lists[: max_candidates + 1]) if column.lists else list(kinds[0]) if kinds else [])
    try:
        return _nested([_keys(name) for name in names], values)
    except ValueError as error:
        raise ValueError(f"columns: {error}") from None


def _lists(lists: Iterable[Texts]) -> list[list[str]]:
    return [list(texts.values) for texts in lists]


def _check_number(paths: int) -> None:
    if paths > _MAX_PATHS:
        raise ValueError(f"{paths} paths, more than {_MAX_PATHS}")


def _keys(path: str) -> tuple[str, ...]:
    if "[" in path:
        raise ValueError(f"path {path!r:.60}: expected keys, joined by dots")
    if (keys := path.count(".") + 1) > _MAX_KEYS:
        raise ValueError(f"path {path!r:.60}: {keys} keys, more than {_MAX_KEYS}")
    try:
        return tuple(map(str, parse_path(path)))
    except SpecError as error:
        raise ValueError(str(error)) from None


def _place(keys: Sequence[str]) -> str:
    return f"path {'.'.join(keys)!r:.60}"


def _nested(paths: Sequence[tuple[str, ...]], values: Iterable[object]) -> Document:
    """The document with these values.

    Raises:
        ValueError: a path occurs twice, or leads through another one's value.
    """
    whole: Document = {}
    for (*outer, last), value in zip(paths, values, strict=True):
        at = whole
        for key in outer:
            inner = at.setdefault(key, {})
            if not isinstance(inner, dict):
                raise ValueError(f"{_place((*outer, last))}: another path has a value at {key!r:.60}")  # noqa: TRY004
            at = inner
        if last in at:
            raise ValueError(f"{_place((*outer, last))}: another path has a value there")
        at[last] = value
    return whole
