"""The numbers of one end as floats, and as a foreign model gets them."""

from collections import Counter
from collections.abc import Sequence
from math import expm1

import numpy as np

from streamer.features.hashing import exact_number, to_floats
from streamer.features.kinds import Numeric
from streamer.features.side_plan import SidePlan
from streamer.types import F32, F64, U64

# Keys contain numbers rounded to 1/32 standard deviation: with raw prices hardly two keys would be equal.
STEPS = 32
"""Steps in a standard deviation, to which a key rounds a number."""


class SideNumbers:
    """Turns columns of raw values into numbers.

    An infinite number counts as missing, and in `out_of_range` by the name of its feature.
    """

    def __init__(self, plan: SidePlan, out_of_range: Counter[str]) -> None:
        self._plan = plan
        self._out_of_range = out_of_range
        self._mean = np.array([f.mean for f in plan.numeric])
        self._std = np.array([f.std for f in plan.numeric])
        self._clip = np.array([f.clip for f in plan.numeric])
        self._log = np.array([f.log for f in plan.numeric], dtype=bool)
        self._defaults = np.array([np.nan if f.default is None else f.default for f in plan.numeric])
        self._replacements = np.array([replacement(f) for f in plan.numeric])

    def raw(self, values: Sequence[Sequence[object] | None], n: int) -> F64:
        """The numbers as in the documents, float64 [n, numbers]; NaN: missing, or an absent column."""
        if not values:
            return np.empty((n, 0))
        raw = np.array([np.full(n, np.nan) if column is None else to_floats(column) for column in values]).T
        infinite = np.isinf(raw)
        if infinite.any():
            self._out_of_range.update(self._plan.numeric[i].name for i in np.nonzero(infinite)[1].tolist())
            raw = np.where(infinite, np.nan, raw)
        return raw

    def floats(self, raw: F64) -> F32:
        """The standardised numbers, then the indicators of missing ones, float32 [n, floats]."""
        floats = self._standardised(raw)
        if self._plan.indicators:
            floats = np.hstack([floats, np.isnan(raw[:, self._plan.indicators]).astype(np.float32)])
        return floats

    def exact(self, values: Sequence[Sequence[object]], raw: F64) -> tuple[F64, F64]:
        """The numbers for a foreign model, and what float64 cannot hold of integers.

        Both are float64 [n, numbers].
        """
        numbers = np.where(np.isnan(raw), self._replacements, raw)
        rests = np.zeros_like(numbers)
        for row, column in np.argwhere(np.abs(raw) >= 2.0**53).tolist():
            numbers[row, column], rests[row, column] = exact_number(values[column][row])
        return numbers, rests

    def foreign_words(self, floats: F32, raw: F64, numbers: F64, rests: F64) -> list[U64]:
        """What a foreign model gets and `floats` do not tell, uint64 [n, numbers] each.

        These are clipped numbers, negative ones of a logarithm, and a missing one, which an Example leaves out.
        """
        differ = (np.abs(floats) >= self._clip.astype(np.float32)) | (self._log & (numbers < 0))
        values = np.where(differ, numbers, 0.0)
        values = np.where(np.isnan(raw) & np.isnan(self._defaults), np.nan, values)
        return [values.view(np.uint64), rests.view(np.uint64)]

    def _standardised(self, raw: F64) -> F32:
        numbers = np.where(np.isnan(raw), self._defaults, raw)
        # Adding 0 turns -0 into 0, whose sign np.maximum does not define.
        numbers = np.where(self._log, np.log1p(np.maximum(numbers, 0.0) + 0.0), numbers)
        with np.errstate(over="ignore"):  # infinity is clipped
            scaled = np.clip((numbers - self._mean) / self._std, -self._clip, self._clip)
        return np.where(np.isnan(scaled), 0.0, scaled).astype(np.float32)


def steps(floats: F32) -> F64:
    """The floats in steps of a key, float64 [n, floats]."""
    # As float64: with a large `clip` a step exceeds int64. Adding 0 turns -0 into 0.
    found: F64 = (np.rint(floats * np.float32(STEPS)) + np.float32(0)).astype(np.float64)
    return found


def replacement(feature: Numeric) -> float:
    """The number that a foreign model gets instead of a missing one: the default, else the mean."""
    if feature.default is not None:
        return feature.default
    return expm1(feature.mean) if feature.log else feature.mean
