"""Stable 64-bit hashes of values: the same in every process and on every platform.

A change in this file changes the meaning of every trained model: `HASHING_VERSION` is part of a spec's hash.
"""

import sys
from collections.abc import Sequence
from math import nextafter

import numpy as np
import xxhash

from streamer.types import F64, U64

HASHING_VERSION = 1

PADDING = 0
"""The hash of a free place of a multi-valued feature; a cross with it has id 0. A text hashes to it with probability
2^-64."""

MISSING = xxhash.xxh3_64_intdigest(b"\xff missing")
"""The hash of a missing value. Its bytes are not UTF-8, so no text is equal to them."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31 = np.uint64(27), np.uint64(30), np.uint64(31)
_WORD = 2**64 - 1
_GOLDEN_INT, _MIX1_INT, _MIX2_INT = int(_GOLDEN), int(_MIX1), int(_MIX2)
_NUMBERS = frozenset((int, float))
_EXACT_LIMIT = 2**53  # the integers up to it are floats
# A longer text is hashed faster than JSON is parsed, and would displace many short ones.
_MAX_MEMOISED_TEXT = 500


def canonical(value: object) -> str | None:
    """The text of a scalar JSON value, or None if it counts as missing.

    Null, the empty string, NaN, objects and lists count as missing, except that a list of one value is this value.
    Producers disagree on 3 and 3.0, so an integral float becomes an integer. JSON parsers disagree on integers beyond
    64 bits, so those become floats.
    """
    if isinstance(value, str):
        return value or None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if _is_64_bit(value):
            return str(value)
        value = to_float(value)
    if isinstance(value, float):
        if value != value:  # noqa: PLR0124  only NaN differs from itself
            return None
        if value.is_integer() and _is_64_bit(value):
            return str(int(value))
        return repr(value)
    item = only_item(value)
    return None if item is value else canonical(item)


def to_float(value: object) -> float:
    """The number of a JSON value: a number, its text, or a list of one of them; otherwise NaN.

    Infinite if it is beyond a float. It never raises.
    """
    try:
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, str):
            return float("nan" if "_" in value else value)
    except OverflowError:
        return float("inf") if isinstance(value, int) and value > 0 else float("-inf")
    except ValueError:
        return float("nan")
    item = only_item(value)
    return float("nan") if item is value else to_float(item)


def to_floats(values: Sequence[object]) -> F64:
    """`to_float` of many values, float64 [len(values)]."""
    if _NUMBERS.issuperset(map(type, values)):
        try:
            return np.array(values, dtype=np.float64)
        except OverflowError:
            pass
    return np.array([to_float(value) for value in values], dtype=np.float64)


def exact_number(value: object) -> tuple[float, float]:
    """`to_float` and, of an integer up to 64 bits, the rest that a float cannot hold.

    The float is rounded towards 0, so that both have one sign.
    """
    value, number = only_item(value), to_float(value)
    if not abs(number) >= _EXACT_LIMIT:
        return number, 0.0
    if isinstance(value, str) and value.strip().lstrip("+-").isdecimal() and len(value) < 40:
        value = int(value)
    if not isinstance(value, int) or not _is_64_bit(value):
        return number, 0.0
    if abs(int(number)) > abs(value):
        number = nextafter(number, 0.0)
    return number, float(value - int(number))


def only_item(value: object) -> object:
    """The value in a list of one value, in however many lists; any other value unchanged."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value


def _is_64_bit(value: float) -> bool:
    return -(2**63) <= value < 2**64


def hash64(text: str) -> int:
    """XXH3 (64 bits, no seed) of a text's UTF-8 bytes; lone surrogates count as code points."""
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))


class TextHasher:
    """`canonical` and `hash64` of many values; it memoises the hashes of recent strings.

    It memoises only strings: 1, 1.0 and True are one key of a dict but three texts. All memoised strings are dropped
    when they are more than `memoised`, or have more than `max_bytes`.
    """

    def __init__(self, memoised: int = 100_000, max_bytes: int = 16 * 2**20) -> None:
        self._limit = memoised
        self._max_bytes = max_bytes
        self._hashes: dict[str, int] = {}
        self.used_bytes = 0

    def __call__(self, values: Sequence[object]) -> U64:
        """Hashes of `values`, uint64 [len(values)]; `MISSING` for a missing value."""
        known = self._hashes
        if len(known) > self._limit or self.used_bytes > self._max_bytes:
            known.clear()
            self.used_bytes = 0
        found: list[int] = []
        for value in values:
            if type(value) is str:
                code = known.get(value)
                if code is None:
                    code = hash64(value) if value else MISSING
                    if len(value) <= _MAX_MEMOISED_TEXT:
                        known[value] = code
                        self.used_bytes += sys.getsizeof(value)
            else:
                text = canonical(value)
                code = MISSING if text is None else hash64(text)
            found.append(code)
        return np.array(found, dtype=np.uint64)


def mix64(x: U64) -> U64:
    """SplitMix64's finalizer, for arrays of any shape.

    Source: Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014.
    Arithmetic is modulo 2^64; numpy gives no warning for arrays.
    """
    x = (x ^ (x >> _S30)) * _MIX1
    x = (x ^ (x >> _S27)) * _MIX2
    return x ^ (x >> _S31)


def prepare(left: U64) -> U64:
    """The part of `join` that depends only on the left hash."""
    return mix64(left + _GOLDEN) + _GOLDEN


def join(prepared: U64, right: U64) -> U64:
    """The hash of a pair of hashes; `prepared` is `prepare` of the left one. Shapes broadcast.

    If either hash is `PADDING`, the result has no meaning and the caller must replace it by padding.
    """
    return mix64(prepared ^ right)


def mix_one(x: int) -> int:
    """`mix64` of one integer in [0, 2^64): for a single value numpy takes ten times as long."""
    x = (x ^ (x >> 30)) * _MIX1_INT & _WORD
    x = (x ^ (x >> 27)) * _MIX2_INT & _WORD
    return x ^ (x >> 31)


def join_one(left: int, right: int) -> int:
    """`join` of one pair of hashes, with `PADDING` if either is."""
    if PADDING in (left, right):
        return PADDING
    return mix_one((mix_one(left + _GOLDEN_INT & _WORD) + _GOLDEN_INT & _WORD) ^ right)
