"""Encodes candidates given as columns: a list of values for each key."""

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from streamer import native
from streamer.errors import InvalidRequestError
from streamer.features.candidate_rows import bad_ad_id
from streamer.features.hashing import mix64
from streamer.features.paths import column_getter
from streamer.features.row_memo import Matrices, RowForm, RowMemo, digests_of
from streamer.features.side import HashedRows, SideEncoder, SideRows
from streamer.features.transforms import feature_column_getter
from streamer.types import RequestPaths

_SEED = secrets.randbits(64)  # another one than that of rows: no values have the digest of a candidate's bytes


class CandidateColumns:
    """Encodes candidates; memoises their hashed features.

    The key is the 128-bit XXH3 hash of the features' values with a secret seed: with a known one a sender can choose
    texts that collide. Numbers are not part of it, because bids and prices differ in each request, and numpy encodes a
    column of them at once.
    Nothing is memoised for a model of another project.
    """

    def __init__(self, side: SideEncoder, paths: RequestPaths, memo: RowMemo) -> None:
        self._side = side
        self._paths = paths
        self._memo = memo
        self._pack = msgspec.msgpack.Encoder().encode
        self._ad_ids = column_getter(paths.ad_id)
        self._columns = tuple((f.path, feature_column_getter(f)) for f in side.features)
        categorical, multi, bucketised, *_ = side.by_kind([()] * len(side.features))
        self._form = RowForm(side.encode_hashed(categorical, multi, side.buckets(bucketised), 0)._asdict())

    def encode(self, columns: object, n: int) -> tuple[Sequence[str], SideRows]:
        """The ad ids and the encoded rows of n candidates.

        Raises:
            InvalidRequestError: an ad id is not a non-empty string, or a column is not a list of n values.
        """
        ad_ids, found = self.read(columns, n)
        absent = [None] * n
        return ad_ids, self._encoded([absent if column is None else column for column in found], n)

    def read(self, columns: object, n: int) -> tuple[Sequence[str], list[list[Any] | None]]:
        """The ad ids, and the columns of the features; None for an absent one.

        Raises:
            InvalidRequestError: as `encode`.
        """
        ad_ids = self.read_ad_ids(columns, n)
        values: list[list[Any] | None] = []
        for path, get in self._columns:
            column = get(columns)
            if column is not None and (not isinstance(column, list) or len(column) != n):
                where = f"{self._paths.candidates}.{path}"
                raise InvalidRequestError(where, f"expected a list of {n} values, one per ad id")
            values.append(column)
        return ad_ids, values

    def read_ad_ids(self, columns: object, n: int) -> Sequence[str]:
        """The ad ids.

        Raises:
            InvalidRequestError: they are no list of n non-empty strings.
        """
        paths, ad_ids = self._paths, self._ad_ids(columns)
        if not isinstance(ad_ids, list) or len(ad_ids) != n:
            raise InvalidRequestError(f"{paths.candidates}.{paths.ad_id}", f"expected a list of {n} ad ids")
        if not _are_ad_ids(ad_ids):
            i = next((i for i, ad_id in enumerate(ad_ids) if not isinstance(ad_id, str) or not ad_id), None)
            if i is not None:
                raise bad_ad_id(paths, i, ad_ids[i])
        return ad_ids

    def _encoded(self, values: Sequence[Sequence[object]], n: int) -> SideRows:
        side = self._side
        if side.is_foreign or not side.plan.hash_width:  # nothing to memoise
            return side.encode(values, n)
        categorical, multi, bucketised, numeric, _ = side.by_kind(values)
        buckets = side.buckets(bucketised)
        try:
            packed = list(map(self._pack, zip(*categorical, *multi, *buckets, strict=True)))
        except (OverflowError, UnicodeEncodeError, RecursionError):  # MessagePack cannot hold all values of JSON
            hashed = side.encode_hashed(categorical, multi, buckets, n)
        else:
            hashed = self._hashed(packed, categorical, multi, buckets)
        _, floats, sums = side.encode_numbers(numeric, n)
        sums += hashed.words[:, -2:]
        hashed.words[:, -2:] = mix64(sums)
        return SideRows.plain(hashed.ids, floats, hashed.words)

    def _hashed(
        self,
        packed: list[bytes],
        categorical: Sequence[Sequence[object]],
        multi: Sequence[Sequence[object]],
        buckets: Sequence[Sequence[int]],
    ) -> HashedRows:
        """The hashed features of the candidates with these packed values."""

        def encode_new(places: list[int]) -> tuple[Matrices, Sequence[object]]:
            new_categorical, new_multi = ([[c[i] for i in places] for c in kind] for kind in (categorical, multi))
            new_buckets = [[bucket[i] for i in places] for bucket in buckets]
            encoded = self._side.encode_hashed(new_categorical, new_multi, new_buckets, len(places))
            return encoded._asdict(), [None] * len(places)

        parts, _ = self._memo.gather(self._form, digests_of(packed, _SEED), encode_new)
        return HashedRows(**parts)


def _are_ad_ids(values: list[object]) -> bool:
    """Whether all values are non-empty strings; it can be false for subclasses of `str`."""
    if native.module is not None:
        return bool(native.module.are_ad_ids(values))
    return set(map(type, values)) == {str} and all(values)
