"""Encodes candidates given as rows: a JSON object each."""

import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Any, overload

import numpy as np
import orjson

from streamer.errors import InvalidRequestError, shown
from streamer.features.paths import getter
from streamer.features.row_memo import Digests, Matrices, RowForm, RowMemo, digests_of
from streamer.features.side import SideEncoder, SideRows
from streamer.types import ReadRow, RequestPaths

ROW_SEED = secrets.randbits(64)
"""Of the digests of rows in this process."""


class DigestedRows(Sequence[bytes]):
    """The rows of candidates whose digests are known; `row` makes one that is read."""

    def __init__(self, digests: Digests, row: Callable[[int], bytes]) -> None:
        self.digests = digests
        self._row = row

    def __len__(self) -> int:
        return len(self.digests)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, int):
            return self._row(range(len(self))[index])
        return [self._row(i) for i in range(len(self))[index]]


def row_digests(rows: Sequence[bytes]) -> Digests:
    """The keys of rows in the memo: valid in this process."""
    return rows.digests if isinstance(rows, DigestedRows) else digests_of(rows, ROW_SEED)


class CandidateRows:
    """Encodes candidates; memoises the encoded rows.

    The key is the 128-bit XXH3 hash of a candidate's bytes with a secret seed, so that no sender can choose candidates
    that collide. The bytes would take more memory than the row, and their comparison more time than the hash.
    """

    def __init__(self, side: SideEncoder, paths: RequestPaths, memo: RowMemo) -> None:
        self._memo = memo
        self._side = side
        self._paths = paths
        self._ad_id = getter(paths.ad_id)
        parts = side.encode_documents([])._asdict()
        self._has_texts = bool(parts.pop("texts").shape[1])
        self._form = RowForm(parts)

    def encode(self, rows: Sequence[bytes], read_row: ReadRow | None) -> tuple[Sequence[str], SideRows]:
        """The ad ids and the encoded rows of n candidates; `read_row` reads a row that is not JSON.

        Raises:
            InvalidRequestError: a candidate cannot be read or is not an object, or its ad id is not a non-empty string.
        """

        def encode_new(places: list[int]) -> tuple[Matrices, Sequence[object]]:
            documents, ad_ids = self.read(rows, places, read_row)
            parts = self._side.encode_documents(documents)._asdict()
            texts = parts.pop("texts").tolist()
            return parts, list(zip(ad_ids, map(tuple, texts), strict=True)) if self._has_texts else ad_ids

        parts, kept = self._memo.gather(self._form, row_digests(rows), encode_new)
        texts = np.empty((len(rows), 0), dtype=np.object_)
        if self._has_texts:
            texts = np.array([texts for _, texts in kept], dtype=np.object_)
            kept = [ad_id for ad_id, _ in kept]
        return kept, SideRows(**parts, texts=texts)

    def new(self, rows: Sequence[bytes]) -> Sequence[bytes]:
        """The distinct rows that are not memoised; none if so many cannot be memoised."""
        if not self._memo.has_room_for(len(rows)):
            return ()
        return [rows[i] for i in self._memo.unknown(row_digests(rows))]

    def read(
        self, rows: Sequence[bytes], places: Iterable[int], read_row: ReadRow | None
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """The objects and the ad ids of the candidates in these places.

        Raises:
            InvalidRequestError: as `encode`.
        """
        documents: list[dict[str, Any]] = []
        ad_ids: list[str] = []
        for i in places:
            try:
                document = orjson.loads(bytes(rows[i])) if read_row is None else read_row(rows[i])
            except ValueError as error:
                reason = f"not valid JSON: {error}" if read_row is None else str(error)
                raise InvalidRequestError(f"{self._paths.candidates}[{i}]", reason) from None
            if not isinstance(document, dict):
                raise InvalidRequestError(f"{self._paths.candidates}[{i}]", "expected an object")
            ad_id = self._ad_id(document)
            if not isinstance(ad_id, str) or not ad_id:
                raise bad_ad_id(self._paths, i, ad_id)
            documents.append(document)
            ad_ids.append(ad_id)
        return documents, ad_ids


def bad_ad_id(paths: RequestPaths, i: int, ad_id: object) -> InvalidRequestError:
    """The error of candidate i, whose ad id is not a non-empty string."""
    field = f"{paths.candidates}[{i}].{paths.ad_id}"
    return InvalidRequestError(field, f"expected a non-empty string, got {shown(ad_id, 40)}")
