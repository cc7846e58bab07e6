"""How long a call of the model takes, by its rows: learnt from the replies. Pure."""

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from streamer.types import ModelVersion


@dataclass(slots=True)
class LatencyModel:
    """Seconds of a call by its rows, `fixed + per_row * n`, learnt from replies by least squares that forgets.

    Robust: a reply that took more than 4 times what was expected counts as 4 times. Until something is learnt the
    estimate is 0, so that nothing is given up on a guess.
    """

    forget: float = 0.98
    _sums: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(5))
    _fixed: float = 0.0
    _per_row: float = 0.0

    def observe(self, rows: int, seconds: float) -> None:
        """Learns from one reply."""
        expected = self.estimate(rows)
        if expected > 0:
            seconds = min(seconds, 4 * expected)
        n = float(rows)
        self._sums = self._sums * self.forget + np.array([1.0, n, n * n, seconds, n * seconds])
        count, sum_n, sum_nn, sum_s, sum_ns = self._sums.tolist()
        spread = count * sum_nn - sum_n * sum_n
        # Too little spread in n leaves the slope undetermined: then all of the time is put on the rows.
        if spread > 1e-3 * count * sum_nn:
            self._per_row = max(0.0, (count * sum_ns - sum_n * sum_s) / spread)
        else:
            self._per_row = sum_s / sum_n if sum_n else 0.0
        self._fixed = max(0.0, (sum_s - self._per_row * sum_n) / count)

    def exceeded(self, rows: int, seconds: float) -> None:
        """Learns from a call that was broken off after so long, where more was not expected of it.

        Else calls that are given too little time would all be broken off, and nothing would ever tell.
        """
        if 0 < self.estimate(rows) < seconds:
            self.observe(rows, seconds)

    def estimate(self, rows: int) -> float:
        """Seconds that a call of `rows` rows should take."""
        return self._fixed + self._per_row * rows

    def rows_within(self, seconds: float) -> float:
        """How many rows a call of that many seconds has time for; below 1 none, infinite while nothing is learnt."""
        if not self._sums[0]:
            return math.inf
        spare = max(0.0, seconds - self._fixed)
        if not spare:
            return 0.0
        return spare / self._per_row if self._per_row else math.inf


class LatencyModels:
    """What is known of each version's latency; of as many as may be asked at once, the last ones."""

    # Some models side by side, some versions of each.
    _MOST = 64

    def __init__(self) -> None:
        self._models: dict[ModelVersion, LatencyModel] = {}

    def of(self, version: ModelVersion) -> LatencyModel:
        """A version's model, a new one for a new version."""
        if version not in self._models:
            if len(self._models) == self._MOST:
                del self._models[next(iter(self._models))]
            self._models[version] = LatencyModel()
        return self._models[version]
