"""Priors: the recent mean score of each ad, for candidates that get no score. Pure."""

import numpy as np
import numpy.typing as npt

from streamer import native
from streamer.types import F32, U64


class Priors:
    """Mean scores of recently scored ads, by the 64-bit hash of an ad's own values.

    The table has a fixed size and one place for each hash. Two ads that share a place replace each other; the replaced
    ad then has the default prior. The mean forgets exponentially: a new score has weight `rate`, but the first scores
    of an ad count as a plain mean. Not thread-safe.
    """

    def __init__(self, places: int = 2**16, rate: float = 0.05) -> None:
        """`places`: a power of two."""
        assert places & (places - 1) == 0, places
        self._mask = np.uint64(places - 1)
        self._rate = np.float32(rate)
        self._max_count = np.float32(1) / self._rate
        self._ads = np.zeros(places, dtype=np.uint64)
        self._means = np.zeros(places, dtype=np.float32)
        self._counts = np.zeros(places, dtype=np.float32)
        self._learn = None if native.module is None else native.module.learn_priors

    def lookup(self, ads: U64, default: float) -> F32:
        """The priors, float32 [n], of n ads, uint64 [n]; `default` for unknown ads."""
        at = self._at(ads)
        known = (self._ads.take(at) == ads) & (self._counts.take(at) > 0)
        return np.where(known, self._means.take(at), np.float32(default))

    def learn(self, ads: U64, ctr: F32) -> None:
        """Adds the scores, float32 [n], of n ads, uint64 [n]; of a repeated ad the last one counts."""
        if self._learn is not None:
            self._learn(self._ads, self._means, self._counts, ads, ctr, float(self._rate))
            return
        at = self._at(ads)
        counts, means = self._counts.take(at), self._means.take(at)
        others = self._ads.take(at) != ads
        if np.count_nonzero(others):
            counts[others] = means[others] = 0
            self._ads[at] = ads
        counts += 1
        means += (ctr - means) * np.maximum(self._rate, 1 / counts)
        self._means[at] = means
        self._counts[at] = np.minimum(counts, self._max_count)

    def _at(self, ads: U64) -> npt.NDArray[np.int64]:
        # numpy converts unsigned indices anew for each access; these are small and need no conversion.
        return (ads & self._mask).view(np.int64)
