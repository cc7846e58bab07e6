"""Chooses the kind of a feature from its values, or says why the field is left out. Pure."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from streamer.spec_sample.observations import MAX_DISTINCT, Observations

ENOUGH = 20
"""With fewer values nothing is called constant or an id."""
_RARE, _ENOUGH_FOR_RARE = 0.01, 100
_NEARLY_ALL = 0.9
_MAX_CATEGORIES = 32
_MAX_VALUES = 16
_COVERED = 0.95
_SKEWED = 20
_MAX_BUCKETS = 2**20
# The largest number of 32 bits is above.
_MAX_NUMBER = 1e38
_ID = re.compile(r"(?:^|[._\]])(?:id|uid|uuid|guid|ifa|sid|tid)$|I[dD]$", re.ASCII)
_RANDOM = re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}|[0-9a-fA-F]{24,}")
_TIME = re.compile(r"\d{4}-\d\d-\d\d(?:$|[T ]\d\d:\d\d)")
# 2001 to 2065, in seconds, milliseconds, microseconds and nanoseconds.
_EPOCHS = [(10.0**9 * unit, 3 * 10.0**9 * unit) for unit in (1, 10**3, 10**6, 10**9)]

Fields = Mapping[str, object]
"""The kind of a feature and its parameters, as in a spec."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A field that becomes no feature, and the reason."""

    reason: str


def choose(path: str, seen: Observations, total: int) -> Fields | LeftOut:
    """The kind for the values at a path of `total` objects."""
    reason = seen.fault or _unusable(path, seen, total)
    if reason is not None:
        return LeftOut(reason)
    if max(seen.lengths) > 1:
        if seen.types["decimal"]:
            return LeftOut("lists of decimal numbers, which are no categories")
        covered = _quantile({float(length): count for length, count in seen.lengths.items()}, _COVERED)
        most = min(_MAX_VALUES, int(covered))
        return {"kind": "multi_valued", "buckets": buckets(seen.expected_distinct), "max_values": most, **_BOTH}
    is_number = not seen.types["text"] and not seen.types["boolean"]
    if is_number and seen.distinct > 1 and not _ID.search(path):
        if seen.types["decimal"]:
            return _numeric(seen, total)
        if seen.expected_distinct > _MAX_CATEGORIES:
            return {"kind": "bucketised", "boundaries": _boundaries(seen), **_BOTH}
    return {"kind": "categorical", "buckets": buckets(seen.expected_distinct), **_BOTH}


_BOTH: Fields = {"wide": True, "deep": True}


def buckets(distinct: int) -> int:
    """Rows for so many values: a power of two with few collisions, between 16 and 2^20."""
    factor = 8 if distinct <= 1_000 else 4 if distinct <= 100_000 else 2
    return min(_MAX_BUCKETS, max(16, 1 << (factor * distinct - 1).bit_length()))


def _unusable(path: str, seen: Observations, total: int) -> str | None:
    if not seen.records:
        return "it never has a value"
    if total >= _ENOUGH_FOR_RARE and seen.records < _RARE * total:
        return f"it has a value in only {seen.records:,} of {total:,}"
    if not seen.distinct:
        return "its values have no text"
    if seen.distinct == 1 and seen.records == total >= ENOUGH:
        return "it is constant"
    if _is_time(seen):
        return "it looks like a timestamp; the hour or the age of something would be a feature"
    texts = seen.types["text"]
    unique = seen.distinct >= _NEARLY_ALL * seen.items or seen.distinct == MAX_DISTINCT
    if unique and seen.items >= ENOUGH and (texts or _ID.search(path)):
        return "it looks like an id: nearly every value is different"
    if texts and seen.distinct == seen.items > 1 and all(map(_RANDOM.fullmatch, seen.counts)):
        return "it looks like a random id"
    return None


def _is_time(seen: Observations) -> bool:
    if all(map(_TIME.match, seen.counts)):
        return True
    if seen.types["text"] or seen.types["boolean"]:
        return False
    numbers = [float(text) for text in seen.counts]
    return any(all(low <= number <= high for number in numbers) for low, high in _EPOCHS)


def _numeric(seen: Observations, total: int) -> Fields | LeftOut:
    weights = {float(text): count for text, count in seen.counts.items()}
    if max(map(abs, weights)) > _MAX_NUMBER:
        return LeftOut("its numbers do not fit 32 bits")
    median = _quantile(weights, 0.5)
    is_log = min(weights) >= 0 and max(weights) > _SKEWED * max(median, 1e-9)
    if is_log:
        weights = {math.log1p(number): count for number, count in weights.items()}
    n = sum(weights.values())
    mean = sum(number * count for number, count in weights.items()) / n
    variance = sum((number - mean) ** 2 * count for number, count in weights.items()) / n
    fields: dict[str, object] = {"kind": "numeric", **({"log": True} if is_log else {})}
    fields |= {"mean": _rounded(mean), "std": max(_rounded(math.sqrt(variance)), 1e-6)}
    if seen.records < total:
        fields["missing_indicator"] = True
    return {**fields, "deep": True}


def _boundaries(seen: Observations) -> list[int]:
    """The deciles."""
    weights = {float(text): count for text, count in seen.counts.items()}
    return sorted({int(_quantile(weights, i / 10)) for i in range(1, 10)})


def _quantile(weights: Mapping[float, int], share: float) -> float:
    """The smallest value that has at least this share of the weight at or below it."""
    rest = share * sum(weights.values())
    for value in sorted(weights):
        rest -= weights[value]
        if rest <= 0:
            return value
    return max(weights)


def _rounded(number: float) -> float:
    return float(f"{number:.4g}")
