"""Priors: the recent mean score of each ad, for candidates that get no score. Pure."""

import numpy as np

from streamer.types import F32, U64


class Priors:
    """Mean scores of recently scored ads, by the 64-bit hash of an ad's own values.

    The table has a fixed size and one place for each hash. Two ads that share a place replace each other; the replaced
    ad then has the default prior. The mean forgets exponentially: a new score has weight `rate`, but the first scores
    of an ad count as a plain mean. Not thread-safe.
    """

    def __init__(self, places: int = 2**16, rate: float = 0.05) -> None:
        self._places = np.uint64(places)
        self._rate = np.float32(rate)
        self._ads = np.zeros(places, dtype=np.uint64)
        self._means = np.zeros(places, dtype=np.float32)
        self._counts = np.zeros(places, dtype=np.float32)

    def lookup(self, ads: U64, default: float) -> F32:
        """The priors, float32 [n], of n ads, uint64 [n]; `default` for unknown ads."""
        at = ads % self._places
        known = (self._ads[at] == ads) & (self._counts[at] > 0)
        return np.where(known, self._means[at], np.float32(default))

    def learn(self, ads: U64, ctr: F32) -> None:
        """Adds the scores, float32 [n], of n ads, uint64 [n]; of a repeated ad the last one counts."""
        at = ads % self._places
        same = self._ads[at] == ads
        counts = np.where(same, self._counts[at], np.float32(0)) + np.float32(1)
        means = np.where(same, self._means[at], np.float32(0))
        self._ads[at] = ads
        self._means[at] = means + (ctr - means) * np.maximum(self._rate, 1 / counts)
        self._counts[at] = np.minimum(counts, np.float32(1) / self._rate)
