"""Cuts the candidates out of a JSON document, without parsing those that it has seen."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from streamer import native
from streamer.features.candidate_rows import ROW_SEED, DigestedRows

DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not JSON, or have another shape."""
_MAX_BYTES = 8 * 2**20
_VALUES = msgspec.json.Decoder(list[msgspec.Raw])


class CutDocument(NamedTuple):
    """The document with an empty list of candidates, and its candidates."""

    rest: bytes
    rows: DigestedRows


class CutColumns(NamedTuple):
    """The document with an empty object in place of its columns, and these by name.

    Their texts may be no JSON.
    """

    rest: bytes
    columns: dict[str, bytes]


class RowCutter:
    """Cuts candidates out of documents by compiled code.

    It remembers the bytes of candidates in lists.

    Invariants: (1) a document whose `rest` is valid JSON is valid itself, and has these candidates; (2) what it
    remembers is at most 8 MiB: it drops the oldest ones.
    """

    def __init__(self, key: str, max_rows: int) -> None:
        """`key`: of the candidates, at the top level of the document."""
        assert native.module is not None
        self._cutter = native.module.RowCutter(key, ROW_SEED, max_rows, _MAX_BYTES)

    def cut(self, document: bytes) -> CutDocument | None:
        """None if the document needs a parser.

        It has no list of objects, is damaged, or more than a quarter of the candidates in recent documents was new and
        their share does not fall: then an attempt costs more than the parser, and the cutter makes one for up to 32
        documents.
        """
        found = self._cutter.cut(document)
        if found is None:
            return None
        rest, digests, rows, unknown = found
        if unknown:
            if not _are_valid(unknown):
                return None
            self._cutter.remember(unknown)
        return CutDocument(rest, DigestedRows(digests, rows.__getitem__))

    def cut_columns(self, document: bytes) -> CutColumns | None:
        """None if the document has no object of lists, is damaged, or recent ones needed a parser."""
        found = self._cutter.cut_columns(document)
        if found is None:
            return None
        rest, columns = found
        return CutColumns(rest, dict(columns))

    def columns_were_cut(self, were_cut: bool) -> None:
        """Whether the last columns needed no parser: attempts that do not pay become rare."""
        self._cutter.columns_were_cut(were_cut)


def _are_valid(texts: Sequence[bytes]) -> bool:
    """Whether each text is a JSON value."""
    try:
        values = _VALUES.decode(b"[%b]" % b",".join(texts))
    except DECODE_ERRORS:
        return False
    # With equal lengths they are the same texts: the first one starts at the same place, and so the second one does.
    return list(map(len, values)) == list(map(len, texts))
