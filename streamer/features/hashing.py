"""Values to stable 64-bit hashes, and hashes to ids. The same in every process, on every platform, for ever.

A change of anything here changes the meaning of every trained model: `HASHING_VERSION` is part of a spec's hash.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xxhash

U64 = npt.NDArray[np.uint64]

HASHING_VERSION = 1

PADDING = 0
"""The hash of an absent value of a multi-valued feature; crosses with it have id 0. The odds that a text hashes to it
are 2^-64."""

MISSING = xxhash.xxh3_64_intdigest(b"\xff missing")
"""The hash of a missing value: of bytes that are no UTF-8, so no text is mistaken for it."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31 = np.uint64(27), np.uint64(30), np.uint64(31)
_INTEGRAL_LIMIT = 2.0**53


def canonical(value: object) -> str | None:
    """The text of a scalar JSON value, or None where it counts as missing.

    Null, the empty string, NaN, lists and objects count as missing. Producers disagree on 3 and 3.0, so an integral
    float reads as an integer; JSON parsers disagree on integers beyond 64 bits, so those read as floats.
    """
    if isinstance(value, str):
        return value or None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if -(2**63) <= value < 2**64 else repr(_rounded(value))
    if isinstance(value, float):
        if value != value:  # noqa: PLR0124  NaN is the one value that differs from itself
            return None
        if abs(value) < _INTEGRAL_LIMIT and value == int(value):
            return str(int(value))
        return repr(value)
    return None


def _rounded(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def hash64(text: str) -> int:
    """XXH3 (64 bits, no seed) of the UTF-8 bytes of `text`. Lone surrogates are hashed as they would be encoded."""
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))


class TextHasher:
    """`canonical` and `hash64` of many values, with the hashes of recent strings remembered.

    Only strings are remembered: 1, 1.0 and True are one key of a dict but three texts.
    """

    def __init__(self, remembered: int = 100_000) -> None:
        self._limit = remembered
        self._hashes: dict[str, int] = {}

    def __call__(self, values: Sequence[object]) -> U64:
        """Hashes of `values`, uint64 [len(values)]; `MISSING` where `canonical` finds none."""
        known = self._hashes
        if len(known) > self._limit:
            known.clear()
        found: list[int] = []
        for value in values:
            if type(value) is str:
                code = known.get(value)
                if code is None:
                    code = known[value] = hash64(value) if value else MISSING
            else:
                text = canonical(value)
                code = MISSING if text is None else hash64(text)
            found.append(code)
        return np.array(found, dtype=np.uint64)


def mix64(x: U64) -> U64:
    """SplitMix64's finalizer (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014). Any shape.

    Arithmetic is modulo 2^64, which numpy does silently for arrays.
    """
    x = (x ^ (x >> _S30)) * _MIX1
    x = (x ^ (x >> _S27)) * _MIX2
    return x ^ (x >> _S31)


def prepare(left: U64) -> U64:
    """The part of `join` that depends on its left side alone."""
    return mix64(left + _GOLDEN) + _GOLDEN


def join(prepared: U64, right: U64) -> U64:
    """The hash of an ordered pair of hashes, of which the left one went through `prepare`. Shapes broadcast.

    Where either one is `PADDING` the result means nothing: callers put padding there.
    """
    return mix64(prepared ^ right)
