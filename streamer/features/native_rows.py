"""Candidates in a JSON document that the native extension finds by their bytes."""

import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar, overload

import msgspec
import numpy as np

from streamer.errors import InvalidRequestError
from streamer.features.candidate_rows import CandidateRows
from streamer.features.native import Native
from streamer.features.side import SideRows
from streamer.types import F32, I32, U64

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Errors of a document that cannot be parsed."""
T = TypeVar("T")
_EVICTED_SHARE = 8
_NEW_ROWS = 384  # so many are encoded at once
_ENTRY_BYTES = 200  # of an entry in the index, in a dict and in lists


class CutRows(Sequence[bytes]):
    """The JSON of a document's candidates, which is copied only if somebody reads it.

    Attributes:
        memo: that of the slots.
        document: the record's JSON; rest: the same without the candidates.
        slots: of the memoised candidates, uint32 [n]; unknown: position and JSON of the others.
        evictions: those of the memo before the search.
    """

    __slots__ = ("_rows", "document", "evictions", "memo", "rest", "slots", "unknown")

    def __init__(
        self,
        memo: "NativeRows",
        document: bytes,
        found: tuple[bytes, bytes, Sequence[tuple[int, bytes]]],
        evictions: int,
    ) -> None:
        self.memo, self._rows = memo, list[bytes]()
        self.document, self.evictions = document, evictions
        self.rest, self.slots, self.unknown = found

    def __len__(self) -> int:
        return len(self.slots) // 4

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._all())

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice) -> list[bytes]: ...
    def __getitem__(self, at: int | slice) -> bytes | list[bytes]:
        return self._all()[at]

    def _all(self) -> list[bytes]:
        self._rows = self._rows or self.memo.split(self)
        return self._rows


class Pairs(NamedTuple):
    """Pair columns: modulus, uint64 [p]; first table row, int32 [p]; if a word can be `PADDING`."""

    modulus: U64
    base: I32
    are_padded: bool


class Joined(NamedTuple):
    """Encoded candidates, joined with their request. The parts are those of `EncodedRequest`."""

    ad_ids: list[str]
    candidate_ids: I32
    candidate_floats: F32
    pair_ids: I32
    keys: U64
    ad_keys: U64


class NativeRows:
    """Encodes a document's candidates in C, with the results and errors of `CandidateRows`.

    Invariants: (1) at most `capacity` rows are memoised; (2) `used_bytes`, of their JSON, rows and ad ids, is at most
    `max_bytes`; (3) the slots that `slots` returns keep their rows until its next call.
    """

    def __init__(
        self, native: Native, key: str, rows: CandidateRows, pairs: Pairs, *, capacity: int, max_bytes: int
    ) -> None:
        self._native, self._rows, self._pairs = native, rows, pairs
        self._index = native.CandidateIndex(key, capacity, secrets.randbits(64))
        self._splitter = native.CandidateIndex(key, 0, 0)
        self._max_bytes = max_bytes
        self._check = msgspec.json.Decoder(msgspec.Raw)
        self._free = list(range(capacity - 1, -1, -1))
        self._sizes: dict[int, int] = {}  # by slot, the oldest first
        self._ad_ids = [""] * capacity
        none = rows.encode_at([], [])[1]
        self._ids = np.zeros((capacity, none.ids.shape[1]), dtype=np.int32)
        self._floats = np.zeros((capacity, none.floats.shape[1]), dtype=np.float32)
        self._words = np.zeros((capacity, none.words.shape[1]), dtype=np.uint64)
        self._row_bytes = sum(a.strides[0] for a in (self._ids, self._floats, self._words))
        self._evictions = 0
        self.used_bytes = 0

    def cut(self, document: bytes, limit: int) -> CutRows | None:
        """A document's candidates, without an error in them; None if it must be parsed as a whole."""
        if (found := self._index.cut(document, limit)) is None:
            return None
        try:
            for _, row in found[2]:
                self._check.decode(row)
        except UNREADABLE:
            return None
        return CutRows(self, document, found, self._evictions)

    def split(self, rows: CutRows) -> list[bytes]:
        """The JSON of each candidate."""
        found = self._splitter.cut(rows.document, len(rows))
        assert found is not None, "it was cut before"
        return [row for _, row in found[2]]

    def slots(self, rows: CutRows) -> bytes | None:
        """The slots of n candidates, uint32 [n], after memoising new ones.

        None: they do not fit, or one is invalid, so that `CandidateRows` must encode them.
        """
        for _ in range(2):
            if rows.evictions != self._evictions:
                found = self._index.cut(rows.document, len(rows))
                assert found is not None, "it was cut before"
                rows = CutRows(self, rows.document, found, self._evictions)
            if not rows.unknown:
                return rows.slots
            if (added := self._add(rows)) is not None or rows.evictions == self._evictions:
                return added
        return None

    def joined(self, slots: bytes, request: SideRows) -> Joined:
        """The rows of n slots, joined with the row of their request."""
        n = len(slots) // 4
        ids = np.empty((n, self._ids.shape[1]), dtype=np.int32)
        floats = np.empty((n, self._floats.shape[1]), dtype=np.float32)
        pair_ids = np.empty((n, len(self._pairs.base)), dtype=np.int32)
        keys, ad_keys = np.empty((n, 2), dtype=np.uint64), np.empty(n, dtype=np.uint64)
        pairs = self._pairs
        sources = slots, self._ids, self._floats, self._words, request.words, pairs.modulus, pairs.base
        targets = ids, floats, pair_ids, keys, ad_keys
        ad_ids = self._native.gather(self._ad_ids, sources, targets, pairs.are_padded)
        return Joined(ad_ids, ids, floats, pair_ids, keys, ad_keys)

    def _add(self, rows: CutRows) -> bytes | None:
        """Memoises unknown candidates; returns all slots. Without room: makes room, returns None."""
        first: dict[bytes, int] = {}  # a candidate that occurs twice is encoded once
        for i, row in rows.unknown:
            first.setdefault(row, i)
        try:
            if len(first) > _NEW_ROWS:
                ad_ids, new = self._rows.encode(list(first), None)  # most are memoised there: `streamer.slices`
            else:
                ad_ids, new = self._rows.encode_at(list(first), list(first.values()))
        except InvalidRequestError:
            return None  # its positions are those of all rows
        sizes = [
            sys.getsizeof(row) + _ad_id_bytes(ad_id) + self._row_bytes + _ENTRY_BYTES
            for row, ad_id in zip(first, ad_ids, strict=True)
        ]
        if len(first) > len(self._free) or self.used_bytes + sum(sizes) > self._max_bytes:
            self._make_room(len(first), sum(sizes))
            return None
        self.used_bytes += sum(sizes)
        slots = np.frombuffer(rows.slots, dtype=np.uint32).copy()
        taken = [self._free.pop() for _ in first]
        self._ids[taken], self._floats[taken], self._words[taken] = new.ids, new.floats, new.words
        for row, slot, ad_id, size in zip(first, taken, ad_ids, sizes, strict=True):
            self._index.put(slot, row)
            self._ad_ids[slot], self._sizes[slot] = ad_id, size
        by_row = dict(zip(first, taken, strict=True))
        for i, row in rows.unknown:
            slots[i] = by_row[row]
        return slots.tobytes()

    def _make_room(self, count: int, size: int) -> None:
        """Evicts the oldest rows, several at a time; none if a request of this size never fits."""
        capacity = len(self._ad_ids)
        if count > capacity or size > self._max_bytes:
            return
        rows_left = capacity - max(count, capacity // _EVICTED_SHARE)
        bytes_left = self._max_bytes - max(size, self._max_bytes // _EVICTED_SHARE)
        while self._sizes and (len(self._sizes) > rows_left or self.used_bytes > bytes_left):
            (slot,) = islice(self._sizes, 1)
            self.used_bytes -= self._sizes.pop(slot)
            self._index.remove(slot)
            self._ad_ids[slot] = ""
            self._free.append(slot)
        self._evictions += 1


def _ad_id_bytes(ad_id: str) -> int:
    # An answer adds the UTF-8 form to a text that is not ASCII.
    return sys.getsizeof(ad_id) + (0 if ad_id.isascii() else 4 * len(ad_id))


def parsed(
    decode: Callable[[bytes], T], native: NativeRows | None, document: bytes, limit: int
) -> tuple[T, CutRows | None]:
    """The parsed document, and its candidates if the extension found them; it then has none.

    Raises what `decode` raises for the whole document.
    """
    if native is not None and (cut := native.cut(document, limit)) is not None:
        try:
            return decode(cut.rest), cut
        except UNREADABLE:
            pass  # the error must be that of the whole document
    return decode(document), None
