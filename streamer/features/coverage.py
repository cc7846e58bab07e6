"""Coverage: the share of rows or requests in which a feature has a value. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from heapq import nlargest
from itertools import islice
from math import isfinite
from os.path import commonprefix

import numpy as np

from streamer.ads import Mask
from streamer.features.hashing import canonical, to_float, to_floats
from streamer.features.kinds import Bucketised, Cross, HashedFeature, MultiValued, Numeric
from streamer.features.paths import MAX_STEPS
from streamer.features.raw_kinds import Integer, RawFeature
from streamer.features.spec import FeatureSpec

ReadFeature = HashedFeature | Numeric | RawFeature
"""A feature with a path; a cross has the values of its parents."""

_TEXTS = frozenset((str, type(None)))
_DOCUMENTS = 100
_PATHS, _LONGEST = 5_000, 500  # more, or longer ones in characters: keys of the documents are values
_COMPARED = 100  # each takes 30 µs
_SIMILAR, _SAME_KEY = 0.6, 0.8
_FEW = 10  # items of a list, which usually have the same keys


def read_features(spec: FeatureSpec) -> tuple[ReadFeature, ...]:
    """The features of a spec that have a path."""
    return tuple(feature for feature in spec.features if not isinstance(feature, Cross))


def present(feature: ReadFeature, column: Sequence[object]) -> Mask:
    """For each of n values of a feature whether the encoder can use it, bool [n]."""
    is_value = check_of(feature)
    if is_value is _is_number:
        return np.isfinite(to_floats(column))
    is_text = _TEXTS.issuperset(map(type, column))  # a text has a truth of its own, which is faster
    if is_text and all(column):
        return np.ones(len(column), np.bool_)
    return np.fromiter(map(bool if is_text else is_value, column), np.bool_, len(column))


def count_present(feature: ReadFeature, column: Sequence[object]) -> int:
    """The number of values that the encoder can use: the sum of `present`."""
    if check_of(feature) is _is_value and _TEXTS.issuperset(map(type, column)):
        return len(list(filter(None, column)))
    return int(np.count_nonzero(present(feature, column)))


def check_of(feature: ReadFeature) -> Callable[[object], bool]:
    """The function that tells whether the encoder can use a value: `present`, for few values."""
    if isinstance(feature, MultiValued) or (isinstance(feature, RawFeature) and feature.max_values is not None):
        return _any_item
    return _is_number if isinstance(feature, Numeric | Bucketised | Integer) else _is_value


def _is_number(value: object) -> bool:
    return isfinite(to_float(value))


def _is_value(value: object) -> bool:
    return bool(value) if type(value) is str else canonical(value) is not None


def _any_item(value: object) -> bool:
    if not isinstance(value, list):
        return _is_value(value)
    for item in value:  # noqa: SIM110  `any` takes twice as long
        if _is_value(item):
            return True
    return False


class Coverage:
    """Counts, by feature, the rows or requests that it saw and those with a value.

    Invariants: (1) `present` of a feature is at most `seen`; (2) the counts do not depend on how rows are cut into
    batches.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        self.features = read_features(spec)
        self.seen = dict.fromkeys((feature.name for feature in self.features), 0)
        self.present = dict(self.seen)
        self.paths = {side: Paths() for side in ("request", "candidate")}

    def add(self, features: Sequence[ReadFeature], columns: Sequence[Sequence[object]], n: int) -> None:
        """Counts n rows: `columns[i]` holds the n values of `features[i]`."""
        for feature, column in zip(features, columns, strict=True):
            self.seen[feature.name] += n
            self.present[feature.name] += count_present(feature, column)


class Paths:
    """The paths to values in 100 documents: 5,000 of at most 100 steps and 500 characters."""

    def __init__(self) -> None:
        self._found: set[str] = set()
        self._left = _DOCUMENTS

    def look_at(self, documents: Iterable[object]) -> None:
        """Adds the paths of more documents, of the first 100."""
        for document in islice(documents, self._left):
            self._left -= 1
            self._add(document, "", MAX_STEPS)

    def nearest(self, path: str) -> str | None:
        """The path itself, if it exists; otherwise the most similar one, or None.

        Of many paths only those are compared that end with the same key or begin in the same way.
        """
        if path in self._found:
            return path
        end = path.rpartition(".")[2]

        def likely(other: str) -> tuple[bool, int, str]:
            alike = commonprefix((path, other))  # noqa: RUF071  characters
            return other.rpartition(".")[2] == end, len(alike), other

        near = nlargest(_COMPARED, self._found, likely)
        score, nearest = max(((_similarity(path, other), other) for other in near), default=(0.0, ""))
        return nearest if score >= _SIMILAR else None

    def _add(self, value: object, path: str, steps: int) -> None:
        """Adds the paths that go at most `steps` further: nesting does not exhaust the stack."""
        if len(self._found) >= _PATHS or len(path) > _LONGEST:
            return
        if isinstance(value, Mapping):
            for key, inner in value.items() if steps else ():
                self._add(inner, f"{path}.{key}" if path else str(key), steps - 1)
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            for item in value[:_FEW] if steps else ():
                self._add(item, f"{path}[*]", steps - 1)
        elif value is not None and path:
            self._found.add(path)


def _similarity(one: str, other: str) -> float:
    """The similarity of two paths, in [0, 1]: of the parts after the keys that both begin with."""
    (*first, last), (*second, end) = one.split("."), other.split(".")
    while first and second and first[0] == second[0]:
        first, second = first[1:], second[1:]
    ratio = SequenceMatcher(None, ".".join([*first, last]), ".".join([*second, end])).ratio()
    return max(ratio, _SAME_KEY if last == end else 0.0)
