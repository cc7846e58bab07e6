"""A world with known click probabilities: draws requests, candidates and click logs."""

import gzip
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np
import numpy.typing as npt
import orjson

from sandbox.world.clicks import auc, draw_clicks
from sandbox.world.contexts import Contexts, draw_contexts, draw_slots, draw_times
from sandbox.world.population import F64, Ints, draw_ads, draw_users, pick
from sandbox.world.truth import Truth, sigmoid

LOG_START_MS = 1_736_121_600_000
"""2025-01-06, a Monday, 00:00 UTC."""
_WEEK_DAYS = 7
_CALIBRATION_REQUESTS, _CALIBRATION_ADS = 4_000, 8
_BLOCK = 4_096
_RARE_SHARE = 8  # up to this part of the catalogue, repeats are rare enough to drop them


@dataclass(frozen=True, slots=True)
class DrawnLog:
    """The values from which a log was drawn: n requests with k shown ads each.

    Attributes:
        users: [n], ads: [n, k], indices of the world's users and ads.
        ctr: float64 [n, k], true click probabilities; clicked: int8 [n, k].
    """

    path: Path
    users: Ints
    ads: Ints
    ctr: F64
    clicked: npt.NDArray[np.int8]

    @property
    def bayes_auc(self) -> float:
        """AUC of the true probabilities on these clicks: a model can exceed it only by chance."""
        return auc(self.clicked, self.ctr)


class World:
    """A seeded world: equal arguments give equal users, slots, ads and truth in every process.

    Candidates are drawn by popularity only, independently of click probabilities, so a log has no selection bias.
    """

    def __init__(
        self, seed: int, *, users: int = 20_000, sites: int = 1_200, ads: int = 5_000, base_ctr: float = 0.065
    ) -> None:
        self.seed = seed
        rng = np.random.default_rng([seed, 0])
        self.ads = draw_ads(rng, ads)
        self.users = draw_users(rng, users, self.ads)
        self.slots = draw_slots(rng, sites)
        self._ad_cdf = np.cumsum(self.ads.weights)
        self._truth = Truth(rng, self.users, self.slots, self.ads)
        requesters, contexts = self.draw_requests(rng, _CALIBRATION_REQUESTS)
        self._truth.calibrate(
            base_ctr, requesters, contexts, self.draw_shown(rng, len(requesters), min(_CALIBRATION_ADS, ads))
        )

    def draw_requests(
        self, rng: np.random.Generator, n: int, times_ms: npt.NDArray[np.int64] | None = None
    ) -> tuple[Ints, Contexts]:
        """n users, drawn by activity, and their contexts; by default at random times of one week."""
        if times_ms is None:
            times_ms = rng.permutation(draw_times(rng, n, LOG_START_MS, _WEEK_DAYS))
        requesters = pick(rng, self.users.weights, n)
        return requesters, draw_contexts(rng, self.slots, self.users, requesters, times_ms)

    def draw_candidates(self, rng: np.random.Generator, n: int) -> Ints:
        """n distinct ads, drawn by popularity without replacement; indices [n].

        Raises:
            ValueError: the catalogue has fewer ads.
        """
        total = len(self.ads.ids)
        if n > total:
            raise ValueError(f"{n} candidates requested, but the catalogue has {total} ads")
        if n * _RARE_SHARE > total:  # Gumbel's trick: the n largest values of log-weight + noise
            return np.argsort(-(np.log(self.ads.weights) + rng.gumbel(size=total)))[:n]
        drawn: dict[int, None] = {}
        while len(drawn) < n:  # dropping repeats is drawing without replacement
            drawn.update(dict.fromkeys(self._pick_ads(rng, n + n // 2).tolist()))
        return np.fromiter(drawn, dtype=np.intp, count=len(drawn))[:n]

    def draw_shown(self, rng: np.random.Generator, requests: int, shown: int) -> Ints:
        """`draw_candidates` for many requests with few candidates each; indices [requests, shown]."""
        if shown > 16:
            return np.stack([self.draw_candidates(rng, shown) for _ in range(requests)])
        if shown > len(self.ads.ids):
            raise ValueError(f"{shown} ads to show, but the catalogue has {len(self.ads.ids)}")
        ads = self._pick_ads(rng, requests * shown).reshape(requests, shown)
        earlier = np.tri(shown, k=-1, dtype=bool)
        while (repeats := ((ads[:, :, None] == ads[:, None, :]) & earlier).any(axis=2)).any():
            ads[repeats] = self._pick_ads(rng, int(repeats.sum()))
        return ads

    def true_ctr(self, user: int, context: Contexts, ads: Ints) -> F64:
        """Click probabilities of n ads for one user in one context (one row); float64 [n]."""
        return self.true_ctrs(np.array([user]), context, ads[None, :]).ravel()

    def true_ctrs(self, users: Ints, contexts: Contexts, ads: Ints) -> F64:
        """Click probabilities for m requests with k ads each, users [m], ads [m, k]; float64 [m, k]."""
        return sigmoid(self._truth.logits(users, contexts, ads))

    def document(self, user: int, context: Contexts) -> dict[str, object]:
        """`user` and `context` of a request, as a bidder sends them."""
        return {"user": orjson.loads(self.users.json[user]), "context": orjson.loads(context.json[0])}

    def ad(self, index: int) -> Mapping[str, object]:
        """One ad as a candidate of a request."""
        return cast(Mapping[str, object], orjson.loads(self.ads.json[index]))

    def draw_log(
        self,
        path: Path,
        n_requests: int,
        shown: int = 4,
        *,
        seed: int = 0,
        start_ms: int = LOG_START_MS,
        days: int = _WEEK_DAYS,
    ) -> DrawnLog:
        """Writes a log of impressions and clicks, one line of JSON per request, ordered by time.

        `{"timestamp_ms": int, "request": {"user": {…}, "context": {…}}, "candidates": [{…}, …], "clicked": [0, 1, …]}`.
        The candidates are the `shown` ads. A path that ends in `.gz` is compressed. Logs of different seeds are
        independent samples of the same world.
        """
        rng = np.random.default_rng([self.seed, 1, seed])
        times = draw_times(rng, n_requests, start_ms, days)
        parts: list[tuple[Ints, Ints, F64, npt.NDArray[np.int8]]] = []
        with _open(path) as log:
            for start in range(0, n_requests, _BLOCK):
                block = times[start : start + _BLOCK]
                requesters, contexts = self.draw_requests(rng, len(block), block)
                ads = self.draw_shown(rng, len(block), shown)
                ctr = self.true_ctrs(requesters, contexts, ads)
                clicked = draw_clicks(rng, ctr)
                parts.append((requesters, ads, ctr, clicked))
                log.write(b"".join(self._lines(block, requesters, contexts, ads, clicked)))
        users, shown_ads, ctr, clicked = (np.concatenate(part) for part in zip(*parts, strict=True))
        return DrawnLog(path, users, shown_ads, ctr, clicked)

    def _lines(
        self,
        times: npt.NDArray[np.int64],
        requesters: Ints,
        contexts: Contexts,
        ads: Ints,
        clicked: npt.NDArray[np.int8],
    ) -> Iterator[bytes]:
        users, catalogue = self.users.json, self.ads.json
        rows = zip(times.tolist(), requesters.tolist(), contexts.json, ads.tolist(), clicked.tolist(), strict=True)
        for time_ms, user, context, shown, clicks in rows:
            yield b'{"timestamp_ms":%d,"request":{"user":%b,"context":%b},"candidates":[%b],"clicked":%b}\n' % (
                time_ms,
                users[user],
                context,
                b",".join([catalogue[i] for i in shown]),
                orjson.dumps(clicks),
            )

    def _pick_ads(self, rng: np.random.Generator, n: int) -> Ints:
        drawn = np.searchsorted(self._ad_cdf, rng.random(n), side="right")
        return np.minimum(drawn, len(self._ad_cdf) - 1)  # because of rounding the last sum may be below 1


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        with gzip.open(path, "wb", compresslevel=1) as file:
            yield cast(IO[bytes], file)
    else:
        with path.open("wb") as plain:
            yield plain
