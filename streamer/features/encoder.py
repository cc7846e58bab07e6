"""Encodes bid requests as matrices, for serving and for training."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np
import orjson

from streamer.errors import InvalidRequestError
from streamer.features.consent import ConsentCheck
from streamer.features.hashing import PADDING, TextHasher, join, mix64, prepare
from streamer.features.layout import Layout
from streamer.features.paths import column_getter, getter
from streamer.features.side import SideEncoder, SideRows
from streamer.features.spec import FeatureSpec
from streamer.types import F32, I32, U64, BidRequest, EncodedRequest, ReadRow, RequestPaths

_EVICTED_SHARE = 8
_BYTES_PER_AD = 800  # of memoised JSON, its ad id and its entry, on average
_ENTRY_BYTES = 128  # of a dict entry and its slot number


class Encoder:
    """Encodes requests by one spec. Not thread-safe.

    A candidate's row depends only on its bytes. The encoder memoises up to `memoised_ads` rows by the exact bytes of
    a candidate, at most `memo_bytes` of them, ad ids and texts (by default 800 for each of `memoised_ads`), and evicts
    the oldest first. Rows and columns of the same values give the same encoding.

    Attributes:
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
        self._consent = ConsentCheck(spec.denial_rules)
        memo_bytes = memoised_ads * _BYTES_PER_AD if memo_bytes is None else memo_bytes
        self._memoised = _MemoisedAds(self._candidate, spec.request, memoised_ads, memo_bytes)
        self._ad_ids = column_getter(spec.request.ad_id)
        self._columns = tuple(column_getter(f.path) for f in self._candidate.features)
        pairs = self.layout.crosses("pair")
        self._pair_modulus = np.array([c.buckets for at, c in pairs for _ in range(at.width)], dtype=np.uint64)
        self._pair_base = np.array([at.offset for at, _ in pairs for _ in range(at.width)], dtype=np.int32)
        self._pairs_are_padded = any(spec.is_padded(cross) for _, cross in pairs)

    def encode(self, request: BidRequest) -> EncodedRequest:
        """Encodes one request of n candidates.

        Unknown and missing values become defaults; if the request denies consent, so do all user features.

        Raises:
            InvalidRequestError: a candidate is not an object, an ad id is not a non-empty string, or a column has
                another length than the ad ids. The error names the field and the candidate.
        """
        if request.rows is not None:
            ad_ids, candidates = self._memoised.encode(request.rows, request.read_row)
        else:
            ad_ids, candidates = self._encode_columns(request)
        denied = self._consent.denies(request.fields)
        end = self._request.encode_documents([request.fields], [denied])
        is_foreign = self.spec.serving is not None
        return EncodedRequest(
            ad_ids=ad_ids,
            request_ids=end.ids,
            request_floats=end.floats,
            candidate_ids=candidates.ids,
            candidate_floats=candidates.floats,
            pair_ids=self._pair_ids(end.halves, candidates.halves),
            keys=mix64(prepare(end.keys) ^ candidates.keys),
            ad_keys=candidates.keys[:, 0],
            consent_denied=denied,
            request_numbers=end.numbers if is_foreign else None,
            candidate_numbers=candidates.numbers if is_foreign else None,
            request_texts=end.texts if is_foreign else None,
            candidate_texts=candidates.texts if is_foreign else None,
        )

    def encode_log(
        self,
        documents: Sequence[Mapping[str, object]],
        candidates: Sequence[Mapping[str, object]],
        shown: Sequence[int],
    ) -> tuple[I32, F32]:
        """Encodes the n logged impressions of m requests as flat rows for training.

        Args:
            documents: the m requests' documents.
            candidates: the n shown candidates, in the order of the requests.
            shown: the number of shown candidates of each request; m counts with sum n.

        Returns:
            ids int32 [n, layout.row_ids] and floats float32 [n, layout.row_floats], as the `serving_default` signature
            takes them: the columns of the request, then of the candidate, then of the pairs.
        """
        denied = list(map(self._consent.denies, documents))
        request = self._request.encode_documents(documents, denied).repeated(shown)
        return self._flat_rows(request, self._candidate.encode_documents(candidates))

    def encode_table(self, values: Mapping[str, Sequence[object]], n: int) -> tuple[I32, F32]:
        """Encodes n rows like `encode_log`, from columns by feature name; a column can be absent."""
        absent: Sequence[object] = [None] * n
        ends = (
            side.encode([values.get(f.name, absent) for f in side.features], n)
            for side in (self._request, self._candidate)
        )
        return self._flat_rows(*ends)

    def flat_rows(self, encoded: EncodedRequest) -> tuple[I32, F32]:
        """Flat rows of a request: int32 [n, layout.row_ids] and float32 [n, layout.row_floats]."""
        ids = encoded.request_ids.repeat(encoded.size, axis=0)
        floats = encoded.request_floats.repeat(encoded.size, axis=0)
        return np.hstack([ids, encoded.candidate_ids, encoded.pair_ids]), np.hstack([floats, encoded.candidate_floats])

    def _flat_rows(self, request: SideRows, candidate: SideRows) -> tuple[I32, F32]:
        pairs = self._pair_ids(request.halves, candidate.halves)
        return np.hstack([request.ids, candidate.ids, pairs]), np.hstack([request.floats, candidate.floats])

    def _pair_ids(self, request: U64, candidate: U64) -> I32:
        crossed = join(prepare(request), candidate)
        ids = (crossed % self._pair_modulus).astype(np.int32) + self._pair_base
        if self._pairs_are_padded:
            ids = np.where((request == PADDING) | (candidate == PADDING), np.int32(0), ids)
        return ids

    def _encode_columns(self, request: BidRequest) -> tuple[Sequence[str], SideRows]:
        columns, n = request.columns, request.size
        paths = self.spec.request
        absent: Sequence[object] = [None] * n
        ad_ids = self._ad_ids(columns)
        if not isinstance(ad_ids, list) or len(ad_ids) != n:
            raise InvalidRequestError(f"{paths.candidates}.{paths.ad_id}", f"expected a list of {n} ad ids")
        for i, ad_id in enumerate(ad_ids):
            if not isinstance(ad_id, str) or not ad_id:
                raise _bad_ad_id(paths, i, ad_id)
        values: list[Sequence[object]] = []
        for feature, get in zip(self._candidate.features, self._columns, strict=True):
            column = get(columns)
            if column is None:
                column = absent
            elif not isinstance(column, list) or len(column) != n:
                place = f"{paths.candidates}.{feature.path}"
                raise InvalidRequestError(place, f"expected a list of {n} values, one per ad id")
            values.append(column)
        return ad_ids, self._candidate.encode(values, n)


class _MemoisedAds:
    """Encoded candidates by their bytes.

    Invariants:
    1. No request evicts a slot that it uses itself.
    2. `used_bytes`, the sum of the slots' JSON, ad ids, texts and entries, is at most `max_bytes`.
    """

    def __init__(self, side: SideEncoder, paths: RequestPaths, capacity: int, max_bytes: int) -> None:
        self._side = side
        self._paths = paths
        self._ad_id = getter(paths.ad_id)
        self._capacity = capacity
        self._max_bytes = max_bytes
        self.used_bytes = 0
        self._slots: dict[bytes, int] = {}
        self._free = list(range(capacity - 1, -1, -1))
        self._ad_ids: list[str] = [""] * capacity
        self._sizes = [0] * capacity
        self._rows = SideRows._make(
            np.zeros((capacity, part.shape[1]), part.dtype) for part in side.encode_documents([])
        )

    def encode(self, rows: Sequence[bytes], read_row: ReadRow | None) -> tuple[Sequence[str], SideRows]:
        if len(rows) > self._capacity:
            return self._encode_new(rows, range(len(rows)), read_row)
        if len(rows) > len(self._free):
            self._evict(max(len(rows), self._capacity // _EVICTED_SHARE))
        slots = [self._slots.get(row, -1) for row in rows]
        if -1 in slots:
            if not self._add([(i, rows[i]) for i, slot in enumerate(slots) if slot < 0], read_row):
                return self._encode_new(rows, range(len(rows)), read_row)
            slots = [self._slots[row] for row in rows]
        index = np.array(slots, dtype=np.intp)
        known = self._ad_ids
        return [known[slot] for slot in slots], SideRows._make(part[index] for part in self._rows)

    def _add(self, unknown: Sequence[tuple[int, bytes]], read_row: ReadRow | None) -> bool:
        """Memoises new candidates. Without room for their bytes it makes room and returns False."""
        first: dict[bytes, int] = {}  # a candidate that occurs twice is encoded once
        for i, row in unknown:
            first.setdefault(row, i)
        ad_ids, new = self._encode_new(list(first), list(first.values()), read_row)
        sizes = list(map(_entry_bytes, first, ad_ids, new.texts.tolist()))
        added = sum(sizes)
        if self.used_bytes + added > self._max_bytes:
            if added <= self._max_bytes:
                self._evict_bytes(max(added, self._max_bytes // _EVICTED_SHARE))
            return False
        self.used_bytes += added
        taken = [self._free.pop() for _ in first]
        for row, slot, ad_id, size in zip(first, taken, ad_ids, sizes, strict=True):
            self._slots[row] = slot
            self._ad_ids[slot] = ad_id
            self._sizes[slot] = size
        self._rows.ids[taken], self._rows.floats[taken], self._rows.numbers[taken] = new.ids, new.floats, new.numbers
        self._rows.halves[taken], self._rows.keys[taken], self._rows.texts[taken] = new.halves, new.keys, new.texts
        return True

    def _encode_new(
        self, rows: Sequence[bytes], positions: Sequence[int], read_row: ReadRow | None
    ) -> tuple[Sequence[str], SideRows]:
        documents: list[object] = []
        ad_ids: list[str] = []
        for i, row in zip(positions, rows, strict=True):
            try:
                document = orjson.loads(row) if read_row is None else read_row(row)
            except ValueError as error:
                reason = f"not valid JSON: {error}" if read_row is None else str(error)
                raise InvalidRequestError(f"{self._paths.candidates}[{i}]", reason) from None
            if not isinstance(document, dict):
                raise InvalidRequestError(f"{self._paths.candidates}[{i}]", "expected an object")
            ad_id = self._ad_id(document)
            if not isinstance(ad_id, str) or not ad_id:
                raise _bad_ad_id(self._paths, i, ad_id)
            documents.append(document)
            ad_ids.append(ad_id)
        return ad_ids, self._side.encode_documents(documents)

    def _evict(self, count: int) -> None:
        for row in list(islice(self._slots, count)):
            slot = self._slots.pop(row)
            self._free.append(slot)
            self.used_bytes -= self._sizes[slot]
            self._ad_ids[slot] = ""
            self._rows.texts[slot] = b""

    def _evict_bytes(self, size: int) -> None:
        wanted = self.used_bytes - size
        while self._slots and self.used_bytes > wanted:
            self._evict(1)


def _entry_bytes(row: bytes, ad_id: str, texts: Sequence[bytes]) -> int:
    # An answer adds the UTF-8 form to a text that is not ASCII; it is at most as long as the JSON.
    utf8 = 0 if ad_id.isascii() else len(row)
    return sys.getsizeof(row) + sys.getsizeof(ad_id) + utf8 + _ENTRY_BYTES + sum(map(sys.getsizeof, texts))


def _bad_ad_id(paths: RequestPaths, i: int, ad_id: object) -> InvalidRequestError:
    got = "nothing" if ad_id is None else f"{ad_id!r:.40}"
    return InvalidRequestError(f"{paths.candidates}[{i}].{paths.ad_id}", f"expected a non-empty string, got {got}")
