"""Encodes bid requests as matrices, for serving and for training."""

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from operator import or_

import numpy as np

from streamer.ads import AdTable, FoundAds
from streamer.features.candidate_columns import CandidateColumns
from streamer.features.candidate_rows import CandidateRows
from streamer.features.candidates_by_id import CandidatesById
from streamer.features.consent import ConsentCheck
from streamer.features.coverage import Coverage, ReadFeature, check_of
from streamer.features.document_native import document_encoder_of
from streamer.features.hashing import PADDING, TextHasher, join, prepare
from streamer.features.kinds import Categorical, Cross, MultiValued
from streamer.features.layout import GROUPS, Layout
from streamer.features.pairs import joiner_of
from streamer.features.row_memo import row_memo
from streamer.features.side import SideEncoder, SideRows
from streamer.features.spec import FeatureSpec
from streamer.features.stored_rows import StoredRows
from streamer.types import F32, I32, U64, BidRequest, EncodedRequest

_BYTES_PER_AD = 800  # of a memoised candidate beside its row, on average


class Encoder:
    """Encodes requests by one spec. Not thread-safe.

    A candidate's row depends only on its values. The encoder memoises up to `memoised_ads` rows, those of columns by
    their values and the others by a hash of their bytes, in at most `memo_bytes` (default: those of `memoised_ads`
    rows and 800 more for each), and evicts the oldest first. Rows and columns of the same values have equal encodings.

    Attributes:
        read_features: the features with a path, those of user and context first.
        out_of_range: by feature, the numbers that did not fit and count as missing; the caller reads and clears it.
    """

    def __init__(self, spec: FeatureSpec, *, memoised_ads: int = 20_000, memo_bytes: int | None = None) -> None:
        self.spec = spec
        self.layout = Layout(spec)
        self.out_of_range = Counter[str]()
        hasher = TextHasher()
        self._request, self._candidate = (
            SideEncoder(self.layout, candidates=side, hasher=hasher, out_of_range=self.out_of_range)
            for side in (False, True)
        )
        self.read_features: tuple[ReadFeature, ...] = (*self._request.features, *self._candidate.features)
        self._checks = tuple(map(check_of, self.read_features))
        self._consent = ConsentCheck(spec.denial_rules)
        is_foreign = spec.serving is not None
        self._document = None if is_foreign else document_encoder_of(self._request.plan, self.out_of_range)
        row_bytes = sum(part.itemsize * part.shape[1] for part in self._candidate.encode_documents([]))
        default = memoised_ads * (row_bytes + _BYTES_PER_AD)
        self._memo = row_memo(memoised_ads, default if memo_bytes is None else memo_bytes)
        self._rows = CandidateRows(self._candidate, spec.request, self._memo)
        self._columns = CandidateColumns(self._candidate, spec.request, self._memo)
        self._by_id: CandidatesById | None = None
        self._joined = joiner_of(spec, self.layout)

    @property
    def memo_bytes(self) -> int:
        """What the memoised candidates take in memory."""
        return self._memo.used_bytes

    def with_ads(self, table: AdTable) -> "Encoder":
        """An encoder for requests by ad id, which shares everything else with this one.

        Raises:
            SpecError: the spec is that of a model of another project.
        """
        other = copy(self)
        other._by_id = CandidatesById(  # noqa: SLF001  of its own class
            self.row_form(), self._rows, self._columns, self._memo.empty(), table
        )
        return other

    def encode(self, request: BidRequest, found: FoundAds | None = None) -> EncodedRequest:
        """Encodes one request of n candidates.

        Unknown and missing values become defaults; if the request denies consent, so do all user features.
        `found`: the ads that `look_up` has found.

        Raises:
            InvalidRequestError: a candidate is not an object, an ad id is not a non-empty string, or a column has
                another length than the ad ids. The error names the field and the candidate.
        """
        unknown, position = None, None
        if self._by_id is not None:
            ad_ids, candidates, unknown, position = self._by_id.encode(request, found)
        elif request.rows is not None:
            ad_ids, candidates = self._rows.encode(request.rows, request.read_row)
        else:
            ad_ids, candidates = self._columns.encode(request.columns, request.size)
        denied = self._consent.denies(request.fields)
        if self._document is not None:
            end = self._document.encode(request.fields, denied=denied)
        else:
            end = self._request.encode_documents([request.fields], [denied])
        is_foreign = self._document is None
        pair_ids, keys = self._joined(end.words, candidates.words)
        return EncodedRequest(
            ad_ids=ad_ids,
            request_ids=end.ids,
            request_floats=end.floats,
            candidate_ids=candidates.ids,
            candidate_floats=candidates.floats,
            pair_ids=pair_ids,
            keys=keys,
            ad_keys=candidates.words[:, -2].copy(),
            consent_denied=denied,
            request_numbers=end.numbers if is_foreign else None,
            candidate_numbers=candidates.numbers if is_foreign else None,
            request_texts=end.texts if is_foreign else None,
            candidate_texts=candidates.texts if is_foreign else None,
            unknown=unknown,
            position=position,
        )

    def look_up(self, columns: Mapping[str, object], n: int) -> FoundAds | None:
        """The ads of a request with columns, for `encode` of its parts; None without a table.

        Raises:
            InvalidRequestError: an ad id is not a non-empty string.
        """
        return None if self._by_id is None else self._by_id.look_up(columns, n)

    def row_form(self) -> StoredRows:
        """The form of candidates in a table of ads.

        Raises:
            SpecError: the spec is that of a model of another project.
        """
        return StoredRows(self.spec, self._candidate)

    def new(self, rows: Sequence[bytes]) -> Sequence[bytes]:
        """The distinct candidates without a memoised row; none if so many cannot be memoised."""
        return (self._by_id or self._rows).new(rows)

    def encode_log(
        self,
        documents: Sequence[Mapping[str, object]],
        candidates: Sequence[Mapping[str, object]],
        shown: Sequence[int],
        coverage: Coverage | None = None,
    ) -> tuple[I32, F32]:
        """Encodes the n logged impressions of m requests as flat rows for training.

        Args:
            documents: the m requests' documents.
            candidates: the n shown candidates, in the order of the requests.
            shown: the number of shown candidates of each request; m counts with sum n.
            coverage: counts the values.

        Returns:
            ids int32 [n, layout.row_ids] and floats float32 [n, layout.row_floats], as the `serving_default` signature
            takes them: the columns of the request, then of the candidate, then of the pairs.
        """
        denied = list(map(self._consent.denies, documents))
        ends: list[SideRows] = []
        for side, some, hides in ((self._request, documents, denied), (self._candidate, candidates, ())):
            values = side.values_of(some, hides)
            if coverage is not None:
                coverage.add(side.features, values, len(some))
            ends.append(side.encode(values, len(some)))
        return self._flat_rows(ends[0].repeated(shown), ends[1])

    def present(self, request: BidRequest, most: int) -> list[list[bool]]:
        """Which of `read_features` have a value in a request that `encode` takes.

        By feature: for user and context [1], consent apart; for candidates [k], of k <= `most` evenly spread ones. A
        feature of an ad by id has a value if the request or the ad gives one.
        """
        own = self._request.values_of([request.fields])
        n = request.size
        places = range(0, n, -(-n // most) or 1)
        if request.rows is not None:
            documents, ad_ids = self._rows.read(request.rows, places, request.read_row)
            columns = self._candidate.values_of(documents)
        else:
            every, read = self._columns.read(request.columns, n)
            ad_ids = [every[i] for i in places]
            columns = [[None if column is None else column[i] for i in places] for column in read]
        found = [list(map(check, column)) for check, column in zip(self._checks, [*own, *columns], strict=True)]
        if self._by_id is not None:
            stored = self._by_id.present(ad_ids).T.tolist()
            found[len(own) :] = [list(map(or_, *both)) for both in zip(found[len(own) :], stored, strict=True)]
        return found

    def encode_table(self, values: Mapping[str, Sequence[object]], n: int) -> tuple[I32, F32]:
        """Encodes n rows like `encode_log`, from columns by feature name; a column can be absent."""
        absent: Sequence[object] = [None] * n
        ends = (
            side.encode([values.get(f.name, absent) for f in side.features], n)
            for side in (self._request, self._candidate)
        )
        return self._flat_rows(*ends)

    def value_hashes(self, values: Mapping[str, Sequence[object]], n: int) -> dict[str, U64]:
        """The hashes of the values of n rows, from columns as in `encode_table`.

        By feature with buckets, uint64 [n, width]: a value's bucket follows from its hash. `MISSING` and `PADDING` are
        no values.
        """
        absent: Sequence[object] = [None] * n
        found: dict[str, U64] = {}
        halves = []
        for side, group in ((self._request, GROUPS[0]), (self._candidate, GROUPS[1])):
            hashes, folded = side.value_hashes([values.get(f.name, absent) for f in side.features], n)
            halves.append(folded[:, side.plan.local_crosses :])
            crosses = iter(folded[:, : side.plan.local_crosses].T)
            for columns in self.layout.ids[group]:
                name, feature = columns.feature.name, columns.feature
                if isinstance(feature, Cross):
                    found[name] = np.stack([next(crosses) for _ in range(columns.width)], axis=1)
                elif isinstance(feature, Categorical | MultiValued) and feature.buckets:
                    found[name] = hashes[:, side.plan.columns[name]]
        pairs = np.where(
            (halves[0] == PADDING) | (halves[1] == PADDING), np.uint64(PADDING), join(prepare(halves[0]), halves[1])
        )
        for columns in self.layout.ids["pair"]:
            found[columns.feature.name] = pairs[:, columns.start : columns.start + columns.width]
        return found

    def flat_rows(self, encoded: EncodedRequest) -> tuple[I32, F32]:
        """Flat rows of a request: int32 [n, layout.row_ids] and float32 [n, layout.row_floats]."""
        ids = encoded.request_ids.repeat(encoded.size, axis=0)
        floats = encoded.request_floats.repeat(encoded.size, axis=0)
        return np.hstack([ids, encoded.candidate_ids, encoded.pair_ids]), np.hstack([floats, encoded.candidate_floats])

    def _flat_rows(self, request: SideRows, candidate: SideRows) -> tuple[I32, F32]:
        pairs, _ = self._joined(request.words, candidate.words)
        return np.hstack([request.ids, candidate.ids, pairs]), np.hstack([request.floats, candidate.floats])
