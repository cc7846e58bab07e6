"""The form of an encoded ad in a table: its row, and the values that the row follows from."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import xxhash

from streamer.ads import Mask, Rows, ad_id_of
from streamer.errors import SpecError, shown
from streamer.features.coverage import present
from streamer.features.paths import getter, nested
from streamer.features.side import FeatureValues, SideEncoder, SideRows
from streamer.features.spec import FeatureSpec

_FORMAT = 1
"""Rises when equal values of a row have another meaning."""


class StoredRows:
    """Implements `streamer.ads.RowForm`.

    A request by ids takes `ids`, `floats` and `words` of a row as they are. `hashes`, `buckets` and `floats` are the
    features: a request's own values replace some of them, and the rest follows from all of them. `present` has a bit
    for each feature. It is not thread-safe, because it shares the hashes of texts with its encoder.

    Attributes:
        dtype: with the fields of `FeatureValues` and `SideRows` in a row.
        fingerprint: of the spec, the dtype and the format.
    """

    def __init__(self, spec: FeatureSpec, side: SideEncoder) -> None:
        """Raises SpecError: the rows of this spec have no fixed size."""
        if spec.serving is not None:
            raise SpecError(
                f"spec {spec.name!r}: serving: a table of ads has no rows of this spec; set ads.topic to null"
            )
        self.side = side
        self.ad_id_path = spec.request.ad_id
        self._ad_id = getter(spec.request.ad_id)
        parts = {
            **side.feature_values([()] * len(side.features), 0)._asdict(),
            **side.encode([()] * len(side.features), 0)._asdict(),
        }
        names = ("hashes", "words", "ids", "buckets", "floats")
        fields = [(name, parts[name].dtype, parts[name].shape[1:]) for name in names]
        fields.append(("present", np.dtype(np.uint8), (-(-len(side.features) // 8),)))
        self.dtype: np.dtype[np.void] = np.dtype(fields, align=True)
        content = f"{_FORMAT} {spec.hash} {self.dtype.descr} {self.dtype.itemsize}"
        self.fingerprint = xxhash.xxh3_128_hexdigest(content.encode())
        plan = side.plan
        first_bucket = len(plan.categorical) + len(plan.multi)
        first_number = first_bucket + len(plan.bucketised)
        widths = [len(plan.columns[feature.name]) for feature in side.features[:first_number]]
        numbers = np.arange(first_number, len(side.features))
        self._first_number = first_number
        # The feature of each hash column, bucket and float.
        self._of_hashes = np.repeat(np.arange(first_number), widths)
        self._of_buckets = np.arange(first_bucket, first_number)
        self._of_floats = np.concatenate([numbers, numbers[plan.indicators]])

    def document(self, key: bytes | None, value: bytes) -> dict[str, Any]:
        """The candidate in a record of the topic, with its ad id.

        Raises:
            ValueError: the key is no ad id, or the value is no object or has another ad id.
        """
        ad_id = ad_id_of(key)
        try:
            document = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise ValueError(f"value: not valid JSON: {error}") from None
        if not isinstance(document, dict):
            raise ValueError(f"value: expected an object, got {shown(document)}")  # noqa: TRY004  as the others
        named = self._ad_id(document)
        if named is None and _put(document, nested(self.ad_id_path, ad_id)):
            return document
        if named != ad_id:
            raise ValueError(f"{self.ad_id_path}: expected the record's key {ad_id!r:.60}, got {shown(named)}")
        return document

    def encode(self, documents: Sequence[Mapping[str, Any]]) -> Rows:
        """The rows of n candidates, structured [n]; values that cannot be used become defaults."""
        columns = self.side.values_of(documents)
        values = self.side.feature_values(columns, len(documents))
        encoded = self.side.encode_features(values)
        rows = np.zeros(len(documents), self.dtype)
        rows["hashes"], rows["buckets"], rows["floats"] = values
        rows["ids"], rows["words"] = encoded.ids, encoded.words
        if columns:
            has_value = [present(feature, column) for feature, column in zip(self.side.features, columns, strict=True)]
            rows["present"] = np.packbits(has_value, axis=0).T
        return rows

    def present(self, rows: Rows) -> Mask:
        """Which features of n rows have a value, bool [n, features]."""
        return np.unpackbits(rows["present"], axis=1, count=len(self.side.features)).view(np.bool_)

    def side_rows(self, rows: Rows) -> SideRows:
        """The encoded candidates in these rows; views."""
        return SideRows.plain(rows["ids"], rows["floats"], rows["words"])

    def merged(self, rows: Rows, values: FeatureValues, given: Mask) -> SideRows:
        """The encoded candidates with the features of `values` where `given`, bool [n, features]."""
        floats = np.where(given[:, self._of_floats], values.floats, rows["floats"])
        if not given[:, : self._first_number].any():  # the most frequent case: a price of this request
            words = rows["words"].copy()
            words[:, -2:] = self.side.keys(rows["hashes"], floats)
            return SideRows.plain(rows["ids"].copy(), floats, words)
        hashes = np.where(given[:, self._of_hashes], values.hashes, rows["hashes"])
        buckets = np.where(given[:, self._of_buckets], values.buckets, rows["buckets"])
        return self.side.encode_features(FeatureValues(hashes, buckets, floats))


def _put(document: dict[str, Any], added: object) -> bool:
    """Adds a value, with the objects around it; False if another value is in its place."""
    assert isinstance(added, dict)
    ((key, value),) = added.items()
    own = document.get(key)
    if isinstance(own, dict) and isinstance(value, dict):
        return _put(own, value)
    if own is not None:
        return False
    document[key] = value
    return True
