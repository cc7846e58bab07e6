"""A model of a call's latency by its number of rows, learnt from the replies. Pure."""

import math
from dataclasses import dataclass

from streamer.types import ModelVersion


@dataclass(slots=True)
class LatencyModel:
    """Predicts the seconds of a call with n rows as `fixed + per_row * n`.

    The fit is by least squares with exponential forgetting. A reply counts at most 4 times the prediction, which limits
    the effect of outliers. Before the first reply the prediction is 0 and `rows_within` is infinite: no row is shed
    without a measurement.
    """

    forget: float = 0.98
    # Of 1, n, n², seconds and n · seconds. Numbers, because numpy takes longer for so few.
    _sums: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)
    _fixed: float = 0.0
    _per_row: float = 0.0

    def observe(self, rows: int, seconds: float) -> None:
        """Learns from one reply."""
        expected = self.estimate(rows)
        if expected > 0:
            seconds = min(seconds, 4 * expected)
        n, kept = float(rows), self.forget
        count, sum_n, sum_nn, sum_s, sum_ns = self._sums
        count, sum_n, sum_nn = count * kept + 1.0, sum_n * kept + n, sum_nn * kept + n * n
        sum_s, sum_ns = sum_s * kept + seconds, sum_ns * kept + n * seconds
        self._sums = count, sum_n, sum_nn, sum_s, sum_ns
        spread = count * sum_nn - sum_n * sum_n
        # If the batches are all of about one size, the slope is undetermined: then the rows take all of the time.
        if spread > 1e-3 * count * sum_nn:
            self._per_row = max(0.0, (count * sum_ns - sum_n * sum_s) / spread)
        else:
            self._per_row = sum_s / sum_n if sum_n else 0.0
        self._fixed = max(0.0, (sum_s - self._per_row * sum_n) / count)

    def timed_out(self, rows: int, seconds: float) -> None:
        """Learns from a call that had no reply after `seconds`, if the estimate was lower.

        Without this, a server that became slower would time out every call, and the estimate would never rise.
        """
        if 0 < self.estimate(rows) < seconds:
            self.observe(rows, seconds)

    def estimate(self, rows: int) -> float:
        """The expected seconds of a call with `rows` rows."""
        return self._fixed + self._per_row * rows

    def rows_within(self, seconds: float) -> float:
        """The rows that a call scores in `seconds`; below 1: none. Infinite before the first reply."""
        if not self._sums[0]:
            return math.inf
        spare = max(0.0, seconds - self._fixed)
        if not spare:
            return 0.0
        return spare / self._per_row if self._per_row else math.inf


class LatencyModels:
    """The latency models of the most recent versions."""

    # Enough for several models and several versions of each.
    _MAX_VERSIONS = 64

    def __init__(self) -> None:
        self._models: dict[ModelVersion, LatencyModel] = {}

    def of(self, version: ModelVersion) -> LatencyModel:
        """The latency model of a version, an empty one for a new version."""
        if (found := self._models.get(version)) is None:
            if len(self._models) == self._MAX_VERSIONS:
                del self._models[next(iter(self._models))]
            found = self._models[version] = LatencyModel()
        return found
