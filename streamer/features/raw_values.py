"""The values of raw features, from JSON to the texts and integers that a model reads."""

import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from math import isfinite, isinf
from typing import Any, Generic, TypeVar

from streamer.features.hashing import canonical, exact_number
from streamer.features.raw_kinds import Hashing, Integer, Lookup, RawFeature, Text
from streamer.features.tensorflow_hashes import fingerprint64, siphash24

Item = bytes | int
"""A text in UTF-8, or an integer of 64 bits."""

Items = Item | tuple[Item, ...] | None
"""The items of one row: of a single value, None if it is missing; of a list, those that are present."""

_T = TypeVar("_T")
_ENTRY_BYTES = 100  # of a dict entry
# A longer text would displace many short ones.
_MAX_MEMOISED = 500


class Memo(Generic[_T]):
    """The results of a pure function by its argument.

    Invariant: `used_bytes`, of the memoised arguments and results, is at most `max_bytes`; then all are dropped.

    Attributes:
        known: the memoised results, for a caller that looks up many at once.
    """

    def __init__(self, compute: Callable[[Any], _T | None], max_bytes: int) -> None:
        self._compute = compute
        self._max_bytes = max_bytes
        self.known: dict[Hashable, _T] = {}
        self.used_bytes = 0

    def __call__(self, argument: Any) -> _T | None:
        """The result; a result of None is not memoised."""
        known = self.known.get(argument)
        if known is not None:
            return known
        result = self._compute(argument)
        if result is not None:
            size = _size(argument) + sys.getsizeof(result) + _ENTRY_BYTES
            if size <= _MAX_MEMOISED:
                if self.used_bytes + size > self._max_bytes:
                    self.known.clear()
                    self.used_bytes = 0
                self.known[argument] = result
                self.used_bytes += size
        return result


def _size(argument: object) -> int:
    more = sum(map(sys.getsizeof, argument)) if isinstance(argument, tuple) else 0
    return sys.getsizeof(argument) + more


class RawValues:
    """The items of one raw feature.

    Attributes:
        missing: the item of a missing value.
    """

    def __init__(self, feature: RawFeature, out_of_range: Counter[str], memo_bytes: int) -> None:
        self.feature = feature
        self._convert = _converter(feature, out_of_range)
        self._memo = Memo[Item](self._convert, memo_bytes)
        missing = self._convert(_missing(feature))
        self.missing: Item = _nothing(feature) if missing is None else missing

    def items(self, values: Iterable[object]) -> list[Item | None]:
        """The item of each JSON value; None: it is missing."""
        known, memo, convert = self._memo.known, self._memo, self._convert
        found: list[Item | None] = []
        for value in values:
            # 1, 1.0 and True are one key of a dict, but different texts.
            if type(value) is str or type(value) is int:
                item = known.get(value)
                found.append(memo(value) if item is None else item)
            else:
                found.append(convert(value))
        return found

    def present(self, value: object) -> tuple[Item, ...]:
        """The first `max_values` present items of a list; a scalar is a list of one."""
        items = self.items(value if isinstance(value, list) else (value,))
        return tuple([item for item in items if item is not None][: self.feature.width])

    def filled(self, rows: Sequence[Items]) -> list[Item]:
        """The items of all rows, one after the other, with the missing one in free places."""
        width, missing = self.feature.width, self.missing
        if self.feature.max_values is None:
            return [missing if item is None or isinstance(item, tuple) else item for item in rows]
        whole: list[Item] = []
        for row in rows:
            assert isinstance(row, tuple)
            whole += row
            whole += [missing] * (width - len(row))
        return whole

    def rows(self, column: Sequence[object]) -> Sequence[Items]:
        """The items of each row of a column."""
        return self.items(column) if self.feature.max_values is None else list(map(self.present, column))


def whole_number(value: object) -> float | int | None:
    """The integer of a JSON value, exactly up to 64 bits; otherwise None, or infinity."""
    if type(value) is int:
        return value
    number, rest = exact_number(value)
    if isfinite(number):
        return int(number) + int(rest) if number.is_integer() else None
    return number if isinf(number) else None


def bucket(text: bytes, bins: int, salt: int | tuple[int, int] | None) -> int:
    """TensorFlow's `to_hash_bucket_fast`, or with a salt `to_hash_bucket_strong`."""
    if salt is None:
        return fingerprint64(text) % bins
    return siphash24(text, (salt, salt) if isinstance(salt, int) else salt) % bins


def _missing(feature: RawFeature) -> object:
    """The JSON value that replaces a missing one; None: the feature names none."""
    if feature.default is not None or isinstance(feature, Text | Integer):
        return feature.default
    return feature.mask_value if isinstance(feature, Hashing) else feature.mask_token


def _nothing(feature: RawFeature) -> Item:
    """The item of the empty text, or of a default out of bounds."""
    if isinstance(feature, Integer):
        return feature.default or 0
    if isinstance(feature, Text):
        return b""
    return _hashing(feature)(b"") if isinstance(feature, Hashing) else _lookup(feature)(b"")


def _converter(feature: RawFeature, out_of_range: Counter[str]) -> Callable[[object], Item | None]:
    if isinstance(feature, Text):
        return _encoded
    if isinstance(feature, Integer):
        return _integer(feature.name, feature.min, feature.max, out_of_range)
    of_text = _hashing(feature) if isinstance(feature, Hashing) else _lookup(feature)
    if isinstance(feature, Lookup) and feature.dtype == "int64":
        number = _integer(feature.name, -(2**63), 2**63 - 1, out_of_range)

        def of_integer(value: object) -> Item | None:
            found = number(value)
            return None if found is None else of_text(str(found).encode())

        return of_integer

    def of_value(value: object) -> Item | None:
        text = _encoded(value)
        return None if text is None else of_text(text)

    return of_value


def _encoded(value: object) -> bytes | None:
    text = canonical(value)
    return None if text is None else text.encode("utf-8", "surrogatepass")


def _integer(name: str, low: int, high: int, out_of_range: Counter[str]) -> Callable[[object], int | None]:
    def convert(value: object) -> int | None:
        number = whole_number(value)
        if number is None:
            return None
        if low <= number <= high:
            return int(number)
        out_of_range[name] += 1
        return None

    return convert


def _hashing(feature: Hashing) -> Callable[[bytes], int]:
    mask = None if feature.mask_value is None or feature.num_bins == 1 else feature.mask_value.encode()
    shift = 0 if mask is None else 1
    bins = feature.num_bins - shift
    return lambda text: 0 if text == mask else bucket(text, bins, feature.salt) + shift


def _lookup(feature: Lookup) -> Callable[[bytes], int]:
    keras = feature.num_oov_indices
    first_unknown = 0 if feature.mask_token is None else 1
    first_word = 0 if keras is None else first_unknown + keras
    known = {word.encode("utf-8", "surrogatepass"): i for i, word in enumerate(feature.vocabulary, first_word)}
    if feature.mask_token is not None:
        known[feature.mask_token.encode()] = 0
    if keras is None:
        first_unknown = len(feature.vocabulary)

    def unknown(text: bytes) -> int:
        if keras is None and not feature.num_oov_buckets:
            return feature.default_value
        if keras is not None and feature.dtype == "int64":
            return first_unknown + int(text) % keras
        return first_unknown + bucket(text, keras or feature.num_oov_buckets, feature.salt)

    def number(text: bytes) -> int:
        found = known.get(text)
        return unknown(text) if found is None else found

    return number
