"""The scores of one request's candidates: known ones, ones already asked for, the model's, and priors for the rest."""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import xxhash

from streamer.deadline import Deadline
from streamer.metrics import Metrics
from streamer.scoring.cache import Owners, Positions, ScoreCache
from streamer.scoring.dispatcher import OUT_OF_TIME, Dispatcher, PendingScores
from streamer.scoring.priors import Priors
from streamer.types import F32, FROM_CACHE, FROM_MODEL, FROM_PRIOR, I8, EncodedRequest, ModelVersion

_OWNERS = 2**32 - 2
_PROBED_SHARE = 16
_FORGET = 0.01


@dataclass(slots=True, eq=False)
class Scored:
    """What has come of one request of n candidates so far.

    Attributes:
        ctr, sources: float32 [n] and int8 [n], indices into `SOURCES`; priors stand where no score came.
        reason: why scores are missing, where they are.
        queue_s, predict_s: seconds in the queue, and from leaving it to the last reply.
        batch_rows: rows of the largest batch that it took part in.
        gone: whether scores are missing because the model server has not got the version any more.
    """

    version: ModelVersion
    encoded: EncodedRequest
    deadline: Deadline
    ctr: F32
    sources: I8
    reason: str | None = None
    queue_s: float = 0.0
    predict_s: float = 0.0
    batch_rows: int = 0
    gone: bool = False

    def take_known(self, rows: Positions, ctr: F32) -> None:
        """Takes over what the cache knew."""
        self.ctr[rows] = ctr
        self.sources[rows] = FROM_CACHE

    def take(self, pending: PendingScores, asked: float, now: float) -> None:
        """Takes over what the model gave."""
        done = pending.done
        self.ctr[done] = pending.ctr[done]
        self.sources[done] = FROM_MODEL
        self.reason = pending.reason or self.reason
        self.gone |= pending.gone
        self.batch_rows = max(self.batch_rows, pending.batch_rows)
        if pending.left:
            self.queue_s += pending.left - asked
            self.predict_s += (pending.replied or now) - pending.left


@dataclass(slots=True)
class HitRatio:
    """Whether the cache pays: the share of candidates that it knew, of late.

    While it is below `least`, only one request in 16 is looked up and kept, chosen by what users and contexts have in
    common with their own repeats, so that what is measured on them holds for all.
    """

    least: float
    value: float = 1.0

    @property
    def is_enough(self) -> bool:
        """Whether the cache knows so much that it pays for every request."""
        return self.value >= self.least

    def pays(self, encoded: EncodedRequest) -> bool:
        """Whether the cache is to be used for this request."""
        if self.is_enough:
            return True
        return xxhash.xxh3_64_intdigest(encoded.request_ids.tobytes()) % _PROBED_SHARE == 0

    def observe(self, known: int, size: int) -> None:
        """One request was looked up."""
        self.value += _FORGET * (known / size - self.value)


@dataclass(slots=True)
class Scores:
    """Finds the scores of requests, by the cheapest way for each candidate.

    Promises: (1) a row that another request has asked for is not asked for again while that request may still get it;
    (2) who waited in vain for another's rows asks for them itself, as far as there is time; (3) only scores of the
    model are kept, errors and priors never.
    """

    cache: ScoreCache | None
    dispatcher: Dispatcher
    metrics: Metrics
    clock: Callable[[], float]
    hit_ratio: HitRatio
    _priors: dict[str, Priors] = field(default_factory=lambda: defaultdict(Priors))
    _flights: dict[int, asyncio.Future[None]] = field(default_factory=dict)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def would_miss_deadline(self, version: ModelVersion, deadline: Deadline) -> bool:
        """Whether a request would get no score in time: too much waits for the model, the cache knows too little."""
        if self.cache is not None and self.hit_ratio.is_enough:
            return False
        return self.dispatcher.would_miss_deadline(version, deadline)

    async def score(
        self, version: ModelVersion, encoded: EncodedRequest, deadline: Deadline, default_prior: float
    ) -> Scored:
        """Scores n candidates by `deadline`; what is missing then has its ad's prior, or the default one."""
        n = encoded.size
        scored = Scored(
            version, encoded, deadline, np.zeros(n, dtype=np.float32), np.full(n, FROM_PRIOR, dtype=np.int8)
        )
        if self.cache is not None and self.hit_ratio.pays(encoded):
            await self._look_up(scored, self.cache)
        else:
            if self.cache is not None:
                self.metrics.cache_bypassed.inc(n)
            await self._ask(scored, np.arange(n))
        priors = self._priors[version.name]
        fresh = scored.sources == FROM_MODEL
        if fresh.any():
            priors.learn(encoded.ad_keys[fresh], scored.ctr[fresh])
        unknown = scored.sources == FROM_PRIOR
        if unknown.any():
            scored.ctr[unknown] = priors.lookup(encoded.ad_keys[unknown], default_prior)
        else:
            scored.reason, scored.gone = None, False
        return scored

    async def _look_up(self, scored: Scored, cache: ScoreCache) -> None:
        size = scored.encoded.size
        found = cache.lookup(scored.version, scored.encoded.keys, self.clock())
        hits = int(found.known.sum())
        self.hit_ratio.observe(hits, size)
        self.metrics.cache_hits.inc(hits)
        self.metrics.cache_misses.inc(size - hits)
        scored.take_known(np.flatnonzero(found.known), found.ctr[found.known])
        await self._get(scored, cache, np.flatnonzero(~found.known), found.owner[~found.known])

    async def _get(self, scored: Scored, cache: ScoreCache, rows: Positions, owners: Owners) -> None:
        """Asks for rows that are not known; those that another request is asking for it waits for."""
        others = {owner: self._flights[owner] for owner in set(owners.tolist()) if owner in self._flights}
        followed = np.isin(owners, list(others))
        if not followed.all():
            await self._ask_and_keep(scored, cache, rows[~followed])
        if others:
            await self._follow(scored, cache, rows[followed], list(others.values()))

    async def _follow(
        self, scored: Scored, cache: ScoreCache, rows: Positions, others: list[asyncio.Future[None]]
    ) -> None:
        """Waits for rows that other requests have asked for, then gets those that did not come."""
        self.metrics.cache_single_flight.inc(len(rows))
        left = scored.deadline.remaining(self.clock()) - self.dispatcher.margin_s
        _, late = await asyncio.wait(others, timeout=max(0.0, left))
        found = cache.lookup(scored.version, scored.encoded.keys[rows], self.clock())
        scored.take_known(rows[found.known], found.ctr[found.known])
        if late:
            # To ask now would be in vain, and would take the places away from those that have more time.
            scored.reason = OUT_OF_TIME
        else:
            await self._get(scored, cache, rows[~found.known], found.owner[~found.known])

    async def _ask_and_keep(self, scored: Scored, cache: ScoreCache, rows: Positions) -> None:
        """Asks the model; whoever wants the same rows meanwhile can follow."""
        owner = 1 + next(self._numbers) % _OWNERS
        flight = self._flights[owner] = asyncio.get_running_loop().create_future()
        encoded = scored.encoded
        places = cache.reserve(scored.version, encoded.keys, rows, owner, now=self.clock(), until=scored.deadline.at)
        try:
            await self._ask(scored, rows)
        finally:
            cache.fill(places, scored.ctr, scored.sources == FROM_MODEL, self.clock())
            del self._flights[owner]
            flight.set_result(None)

    async def _ask(self, scored: Scored, rows: Positions) -> None:
        asked = self.clock()
        encoded = scored.encoded

        def worth() -> F32:
            return self._priors[scored.version.name].lookup(encoded.ad_keys, 0.0)

        pending = await self.dispatcher.score(scored.version, encoded, rows, scored.deadline, worth=worth)
        scored.take(pending, asked, self.clock())
