"""Encodes candidates by the rows of their ads in a table."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from streamer.ads import AdTable, FoundAds, Mask, Rows, TablePosition
from streamer.features.candidate_columns import CandidateColumns
from streamer.features.candidate_rows import CandidateRows, row_digests
from streamer.features.paths import getter, nested, parse_path
from streamer.features.row_memo import Matrices, RowForm, RowMemo
from streamer.features.side import FeatureValues, SideRows
from streamer.features.stored_rows import StoredRows
from streamer.types import BidRequest, ReadRow

_Column = Sequence[object]
_Places = npt.NDArray[np.int64]
_NOT_GIVEN: tuple[object, ...] = (None, "", [])
_UNKNOWN = b"\2"  # no row of a request begins with it


class EncodedAds(NamedTuple):
    """n encoded candidates; `EncodedRequest` describes the last two."""

    ad_ids: Sequence[str]
    rows: SideRows
    unknown: Mask | None
    position: TablePosition


class _Values(NamedTuple):
    """The values in a request, for n candidates: the features where `given`, bool [n, features].

    `rows`: the rows of these values alone, if they are memoised.
    """

    features: FeatureValues
    given: Mask
    rows: Matrices | None = None


class CandidatesById:
    """Takes the rows of ads from a table; values in the request replace the ads' values.

    They do so feature by feature. A null, an empty text, NaN and an empty list are no values. The row of an ad that the
    table does not contain is that of a candidate with its id and the request's values only. The values of candidates in
    rows are memoised by a hash of their bytes, as in `CandidateRows`; unknown ads of requests with nothing but ids by a
    hash of the id.

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
        is_id = [getter(f.path)(nested(path, "an id")) is not None for f in form.side.features]
        self._is_flat = len(parse_path(path)) == 1
        self._is_id = np.array(is_id, dtype=np.bool_)
        self._default = form.encode([{}])
        self._own = np.flatnonzero(~self._is_id).tolist()
        nothing = self._of_columns([None] * len(is_id), 0, with_ids=False)
        self._bytes = RowForm(self._parts(nothing))
        self._unknown = RowForm(_named(form.side_rows(self._default[:0])))

    def encode(self, request: BidRequest, found: FoundAds | None = None) -> EncodedAds:
        """The encoded candidates of a request. `found`: their ads, if they have been looked up.

        Raises:
            InvalidRequestError: as `CandidateRows.encode` and `CandidateColumns.encode`.
        """
        values: _Values | None = None
        if request.rows is not None:
            ad_ids, values = self._of_rows(request.rows, request.read_row)
        else:
            ad_ids = self._columns.read_ad_ids(request.columns, request.size)
        rows, known, position = self._table.lookup(ad_ids) if found is None else found
        unknown = None if np.count_nonzero(known) == len(known) else ~known
        if unknown is not None:
            rows[unknown] = self._default
        columns: Sequence[_Column | None] = ()
        if request.columns is not None and (unknown is not None or not self._are_ids(request.columns)):
            _, columns = self._columns.read(request.columns, request.size)
            if any(columns[i] for i in self._own):
                values = self._of_columns(columns, request.size, with_ids=unknown is not None)
        encoded = self._merged(rows, values)
        if unknown is not None and self._is_id.any():
            self._put_ids(encoded, rows, values, columns, ad_ids=ad_ids, at=np.flatnonzero(unknown))
        return EncodedAds(ad_ids, encoded, unknown, position)

    def _merged(self, rows: Rows, values: _Values | None) -> SideRows:
        """The encoded candidates: the request's values, and otherwise those of the rows."""
        if values is None or not values.given.any():
            return self._form.side_rows(rows)
        if values.rows is not None and values.given[:, self._own].all():
            return SideRows.plain(*(values.rows[part] for part in ("ids", "floats", "words")))
        return self._form.merged(rows, values.features, values.given)

    def _put_ids(
        self,
        encoded: SideRows,
        rows: Rows,
        values: _Values | None,
        columns: Sequence[_Column | None],
        *,
        ad_ids: Sequence[str],
        at: _Places,
    ) -> None:
        """Encodes the unknown ads in places `at` again, with their ids: of many ads few are unknown."""

        def encode(places: _Places) -> Matrices:
            chosen = places.tolist()
            if values is None:
                some = [None if column is None else [column[i] for i in chosen] for column in columns]
                features, given, _ = self._of_columns(some, len(chosen), with_ids=True)
            else:
                every = values.features
                features = FeatureValues(every.hashes[places], every.buckets[places], every.floats[places])
                given = values.given[places]
            return _named(self._form.merged(rows[places], features, given | self._is_id))

        if values is None and self._is_flat:  # nothing but ids: a deleted ad is unknown in many requests
            keys = row_digests([_UNKNOWN + ad_ids[i].encode("utf-8", "surrogatepass") for i in at.tolist()])
            own, _ = self._memo.gather(self._unknown, keys, lambda new: (encode(at[new]), [None] * len(new)))
        else:
            own = encode(at)
        encoded.ids[at], encoded.floats[at], encoded.words[at] = own["ids"], own["floats"], own["words"]

    def _are_ids(self, columns: Mapping[str, object]) -> bool:
        """Whether columns have nothing but the ad ids: the most frequent request."""
        return self._is_flat and len(columns) == 1

    def look_up(self, columns: object, n: int) -> FoundAds:
        """The ads of n candidates in columns.

        Raises:
            InvalidRequestError: an ad id is not a non-empty string.
        """
        return self._table.lookup(self._columns.read_ad_ids(columns, n))

    def present(self, ad_ids: Sequence[str]) -> Mask:
        """Which features of n ads have a value in the table, bool [n, features]."""
        rows, known, _ = self._table.lookup(ad_ids)
        return self._form.present(rows) & known[:, None]

    def new(self, rows: Sequence[bytes]) -> Sequence[bytes]:
        """The distinct rows that are not memoised; none if so many cannot be memoised."""
        if not self._memo.has_room_for(len(rows)):
            return ()
        return [rows[i] for i in self._memo.unknown(row_digests(rows))]

    def _of_rows(self, rows: Sequence[bytes], read_row: ReadRow | None) -> tuple[Sequence[str], _Values]:
        """The ad ids and the values of candidates in rows."""

        def encode_new(places: list[int]) -> tuple[Matrices, Sequence[object]]:
            documents, ad_ids = self._rows.read(rows, places, read_row)
            columns = [[get(document) for document in documents] for get in self._side.getters]
            return self._parts(self._of_columns(columns, len(documents), with_ids=True)), ad_ids

        parts, ad_ids = self._memo.gather(self._bytes, row_digests(rows), encode_new)
        features = FeatureValues(parts["hashes"], parts["buckets"], parts["floats"])
        return ad_ids, _Values(features, parts["given"], parts)

    def _parts(self, values: _Values) -> dict[str, Any]:
        """What is memoised of candidates in rows: their values, and their rows without a table."""
        encoded = self._side.encode_features(values.features)
        own = {"ids": encoded.ids, "words": encoded.words, "given": values.given}
        return {**values.features._asdict(), **own}

    def _of_columns(self, columns: Sequence[_Column | None], n: int, *, with_ids: bool) -> _Values:
        """The values of n candidates.

        Those of ad ids are not given: they are the row's. `with_ids`: whether they are needed, for unknown ads.
        """
        given = np.zeros((n, len(columns)), dtype=np.bool_)
        used: list[_Column | None] = [None] * len(columns)
        for i, column in enumerate(columns):
            if column is None:
                continue
            if self._is_id[i]:
                used[i] = column if with_ids else None
            else:
                given[:, i] = [value == value and value not in _NOT_GIVEN for value in column]  # noqa: PLR0124  NaN
                used[i] = column if given[:, i].any() else None
        return _Values(self._side.feature_values(used, n), given)


def _named(rows: SideRows) -> Matrices:
    """The matrices of a model of this project."""
    return {"ids": rows.ids, "floats": rows.floats, "words": rows.words}
