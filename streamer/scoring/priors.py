"""What is known of an ad before the model is asked: its recent mean score. Pure numpy."""

import numpy as np

from streamer.types import F32, U64


class Priors:
    """Mean scores of recently scored ads, by the 64-bit hash of an ad's own values.

    A table of fixed size, one place an ad: two ads that share a place push each other out, which costs the one that is
    asked for next its own prior and nothing more. The mean forgets: each score counts `rate` of what is there, but the
    first ones count as a plain mean does. Not thread-safe.
    """

    def __init__(self, places: int = 2**16, rate: float = 0.05) -> None:
        self._places = np.uint64(places)
        self._rate = np.float32(rate)
        self._ads = np.zeros(places, dtype=np.uint64)
        self._means = np.zeros(places, dtype=np.float32)
        self._counts = np.zeros(places, dtype=np.float32)

    def lookup(self, ads: U64, default: float) -> F32:
        """The priors of n ads, uint64 [n]; float32 [n], `default` for those not known."""
        at = ads % self._places
        known = (self._ads[at] == ads) & (self._counts[at] > 0)
        return np.where(known, self._means[at], np.float32(default))

    def learn(self, ads: U64, ctr: F32) -> None:
        """Takes in the scores, float32 [n], of n ads, uint64 [n]; of an ad that stands twice, the last one counts."""
        at = ads % self._places
        same = self._ads[at] == ads
        counts = np.where(same, self._counts[at], np.float32(0)) + np.float32(1)
        means = np.where(same, self._means[at], np.float32(0))
        self._ads[at] = ads
        self._means[at] = means + (ctr - means) * np.maximum(self._rate, 1 / counts)
        self._counts[at] = np.minimum(counts, np.float32(1) / self._rate)
