"""Changes of the world's ads while bidders send requests: new values, deletions, new ads."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import orjson

from sandbox.world.world import World

_ABSENT_SHARE = 0.01
_DELETED_SHARE = _ADDED_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class AdChange:
    """One record of the topic of ads.

    Attributes:
        ad: index of the ad; key: its id; value: its features as JSON; None: the ad is deleted.
    """

    ad: int
    key: bytes
    value: bytes | None


class AdChanges:
    """An endless, seeded stream of changes of the world's ads, after the catalogue itself.

    Not thread-safe.

    - The last 1 % of the catalogue, the rarest ads, are not in `catalogue`: they are new ads later.
    - Of the later changes 2 % delete an ad, and 2 % add a new or a deleted one. The others change bid, age, creative
      and product of an ad, drawn by popularity. Click probabilities do not depend on these, so they stay known.
    """

    def __init__(self, world: World, *, seed: int = 0) -> None:
        self._world = world
        self._rng = np.random.default_rng([world.seed, 6, seed])
        self._keys = [ad.encode() for ad in world.ads.ids]
        total = len(self._keys)
        self._absent = list(range(total - round(total * _ABSENT_SHARE), total))
        self._documents = [dict(world.ad(i)) for i in range(total)]

    def catalogue(self) -> Iterator[AdChange]:
        """The ads that the topic has before any change."""
        absent = set(self._absent)
        ads = self._world.ads
        yield from (AdChange(i, key, ads.json[i]) for i, key in enumerate(self._keys) if i not in absent)

    def next(self) -> AdChange:
        """The next change."""
        kind = self._rng.random()
        if kind < _ADDED_SHARE and self._absent:
            ad = self._absent.pop(int(self._rng.integers(len(self._absent))))
            return AdChange(ad, self._keys[ad], orjson.dumps(self._documents[ad]))
        ad = self._present()
        if kind > 1.0 - _DELETED_SHARE and len(self._absent) < len(self._keys) // 2:
            self._absent.append(ad)
            return AdChange(ad, self._keys[ad], None)
        document, total = self._documents[ad], len(self._keys)
        document["bid"] = round(float(np.exp(0.6 * self._rng.standard_normal())), 2)
        document["age_days"] = int(self._rng.exponential(30.0))
        document["creative"] = f"cr-{self._rng.integers(2 * total)}"
        document["product"] = f"prd-{self._rng.integers(total)}"
        return AdChange(ad, self._keys[ad], orjson.dumps(document))

    def _present(self) -> int:
        """An ad of the topic, by popularity."""
        while True:
            (ad,) = self._world.draw_candidates(self._rng, 1).tolist()
            if ad not in self._absent:
                return int(ad)
