"""Parses the top level of JSON documents."""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import suppress

import msgspec

from streamer import native
from streamer.formats.candidates import Candidates
from streamer.formats.row_cutter import DECODE_ERRORS, RowCutter

UnparsedColumns = Callable[[dict[str, bytes]], Candidates | None]
"""Makes candidates of the texts of columns, if they are valid JSON for sure."""


class JsonDocuments:
    """Parses some keys at the top level of documents, in one pass.

    Those in `containers` must be objects. The values of `candidates` stay raw bytes, because the encoder memoises rows
    by these bytes. With compiled code, candidates that occurred before are not parsed again.
    """

    def __init__(
        self,
        keys: AbstractSet[str],
        containers: frozenset[str],
        candidates: str | None,
        max_candidates: int,
        unparsed_columns: UnparsedColumns | None = None,
    ) -> None:
        """`candidates`: their key, or None if they are inside of another value."""
        self._unparsed_columns = unparsed_columns
        self._keys = {f"f{i}": key for i, key in enumerate(sorted(keys - {candidates}))}
        fields: list[tuple[str, object, object]] = [
            (name, dict[str, object] | None if key in containers else object, None) for name, key in self._keys.items()
        ]
        rename = dict(self._keys)
        self._cutter: RowCutter | None = None
        if candidates is not None:
            fields.append(("cut", list[msgspec.Raw] | dict[str, msgspec.Raw] | None, None))
            rename["cut"] = candidates
            self._cutter = None if native.module is None else RowCutter(candidates, max_candidates)
        self._decoder = msgspec.json.Decoder(msgspec.defstruct("Document", fields, rename=rename))

    def read(self, value: bytes) -> tuple[dict[str, object], object]:
        """The values by key, and the candidates.

        They are None, `DigestedRows`, `Candidates`, a list of `Raw`, or `Raw` by key.

        Raises:
            msgspec.DecodeError, UnicodeDecodeError, RecursionError: the document is not JSON or has another shape.
        """
        if self._cutter is not None and (known := self._known(value, self._cutter)) is not None:
            rest, candidates = known
            with suppress(*DECODE_ERRORS):  # the error of the whole document says where it is
                return self._fields(self._decoder.decode(rest)), candidates
        document = self._decoder.decode(value)
        return self._fields(document), getattr(document, "cut", None)

    def _known(self, value: bytes, cutter: RowCutter) -> tuple[bytes, object] | None:
        """The document without its candidates, and these."""
        if (cut := cutter.cut(value)) is not None:
            return cut
        if self._unparsed_columns is None or (columns := cutter.cut_columns(value)) is None:
            return None
        candidates = self._unparsed_columns(columns.columns)
        cutter.columns_were_cut(candidates is not None)
        return None if candidates is None else (columns.rest, candidates)

    def _fields(self, document: object) -> dict[str, object]:
        return {key: getattr(document, name) for name, key in self._keys.items()}
