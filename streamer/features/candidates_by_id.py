"""Encodes candidates by the rows of their ads in a table."""

import secrets
from collections.abc import Sequence
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import xxhash

from streamer.ads import AdTable, FoundAds, Mask, Rows, TablePosition
from streamer.features.candidate_columns import CandidateColumns
from streamer.features.candidate_rows import CandidateRows
from streamer.features.paths import nested
from streamer.features.row_memo import RowForm, RowMemo, first_places
from streamer.features.side import FeatureValues, SideRows
from streamer.features.stored_rows import StoredRows
from streamer.types import BidRequest, ReadRow

_Column = Sequence[object]
_SEED = secrets.randbits(64)
_NOT_GIVEN: tuple[object, ...] = (None, "", [])


class EncodedAds(NamedTuple):
    """n encoded candidates; `EncodedRequest` describes the last two."""

    ad_ids: Sequence[str]
    rows: SideRows
    unknown: Mask | None
    position: TablePosition


class _Given(NamedTuple):
    """The values in a request: `features` of n rows where `mask`, bool [n, features]."""

    features: FeatureValues
    mask: Mask


class CandidatesById:
    """Takes the rows of ads from a table; a value in the request replaces the ad's value of that feature.

    A null, an empty text, NaN and an empty list are no values. The row of an ad that the table does not contain is that
    of a candidate with its id and the request's values only. The values of candidates in rows are memoised by a hash of
    their bytes, as in `CandidateRows`.

    Invariant: the encoding is that of the candidate with the request's values and, for the others, the ad's.
    """

    def __init__(
        self, form: StoredRows, rows: CandidateRows, columns: CandidateColumns, memo: RowMemo, table: AdTable
    ) -> None:
        self._form = form
        self._rows = rows
        self._columns = columns
        self._memo = memo
        self._table = table
        self._side = form.side
        path = form.ad_id_path
        self._is_id = [get(nested(path, "an id")) is not None for get in form.side.getters]
        self._default = form.encode([{}])
        parts = form.side.feature_values([None] * len(self._is_id), 0)._asdict()
        self._bytes = RowForm({**parts, "given": np.empty((0, len(self._is_id)), dtype=np.bool_)})

    def encode(self, request: BidRequest, found: FoundAds | None = None) -> EncodedAds:
        """The encoded candidates of a request. `found`: their ads, if they have been looked up.

        Raises:
            InvalidRequestError: as `CandidateRows.encode` and `CandidateColumns.encode`.
        """
        given: _Given | None
        if request.rows is not None:
            ad_ids, given = self._given_rows(request.rows, request.read_row)
        else:
            ad_ids, columns = self._columns.read(request.columns, request.size)
            values, mask = self._values(columns, request.size)
            given = _Given(self._side.feature_values(values, request.size), mask) if any(values) else None
        rows, known, position = self._table.lookup(ad_ids) if found is None else found
        unknown = None
        if not known.all():
            unknown = ~known
            rows = rows.copy()
            rows[unknown] = self._default_rows([ad_ids[i] for i in np.flatnonzero(unknown).tolist()])
        if given is not None and given.mask.any():
            encoded = self._side.encode_features(self._form.merged(rows, given.features, given.mask))
        else:
            encoded = self._form.side_rows(rows)
        return EncodedAds(ad_ids, encoded, unknown, position)

    def look_up(self, columns: object, n: int) -> FoundAds:
        """The ads of n candidates in columns.

        Raises:
            InvalidRequestError: an ad id is not a non-empty string.
        """
        return self._table.lookup(self._columns.read_ad_ids(columns, n))

    def new(self, rows: Sequence[bytes]) -> Sequence[bytes]:
        """The distinct rows that are not memoised; none if so many cannot be memoised."""
        if not self._memo.has_room_for(len(rows)):
            return ()
        digests = list(map(xxhash.xxh3_128_digest, rows, repeat(_SEED)))
        return [rows[i] for i in first_places(digests, list(map(self._memo.known.get, digests))).values()]

    def _given_rows(self, rows: Sequence[bytes], read_row: ReadRow | None) -> tuple[Sequence[str], _Given]:
        digests = list(map(xxhash.xxh3_128_digest, rows, repeat(_SEED)))
        found: list[Any] = list(map(self._memo.known.get, digests))
        if first := first_places(digests, found):
            documents, ad_ids = self._rows.read(rows, first.values(), read_row)
            values, mask = self._values([[get(d) for d in documents] for get in self._side.getters], len(documents))
            features = self._side.feature_values(values, len(documents))
            parts = self._bytes.rows({**features._asdict(), "given": mask})
            new = dict(zip(first, zip(parts, ad_ids, strict=True), strict=True))
            self._memo.add(new)
            found = [new[digest] if row is None else row for digest, row in zip(digests, found, strict=True)]
        table = self._bytes.table([row[0] for row in found])
        features = FeatureValues(table["hashes"], table["buckets"], table["floats"])
        return [row[1] for row in found], _Given(features, table["given"])

    def _values(self, columns: Sequence[_Column | None], n: int) -> tuple[list[_Column | None], Mask]:
        """The columns with values, and where they are, bool [n, features]. The ad id is no value: it is the row's."""
        mask = np.zeros((n, len(columns)), dtype=np.bool_)
        present: list[_Column | None] = [None] * len(columns)
        for i, column in enumerate(columns):
            if column is not None and not self._is_id[i]:
                mask[:, i] = [value == value and value not in _NOT_GIVEN for value in column]  # noqa: PLR0124  NaN
                present[i] = column if mask[:, i].any() else None
        return present, mask

    def _default_rows(self, ad_ids: Sequence[str]) -> Rows:
        """The rows of candidates with these ids and no other value, structured [len(ad_ids)]."""
        n, getters = len(ad_ids), self._side.getters
        documents = [nested(self._form.ad_id_path, ad_id) for ad_id in ad_ids]
        values = [list(map(get, documents)) if is_id else None for get, is_id in zip(getters, self._is_id, strict=True)]
        mask = np.repeat([self._is_id], n, axis=0)
        features = self._form.merged(self._default.repeat(n), self._side.feature_values(values, n), mask)
        return self._form.rows(features)
