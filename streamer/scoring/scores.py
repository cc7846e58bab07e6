"""Scores requests: cached scores, scores of active calls, new calls, priors, in this order."""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import xxhash

from streamer import unknown_ads
from streamer.deadline import Deadline
from streamer.metrics import Metrics
from streamer.scoring.batching import Ticket, request_key
from streamer.scoring.cache import Leaders, Positions, ScoreCache
from streamer.scoring.dispatcher import DEADLINE_PASSED, Dispatcher
from streamer.scoring.priors import Priors
from streamer.tracing.recording import RequestTrace
from streamer.types import F32, FROM_CACHE, FROM_MODEL, FROM_PRIOR, I8, U64, EncodedRequest, ModelVersion

_LEADER_IDS = 2**32 - 2
_PROBE_EVERY = 16
_FORGET = 0.01


@dataclass(slots=True, eq=False)
class ScoredRequest:
    """The scores of one request of n candidates, as far as they are known.

    Attributes:
        ctr: float32 [n]; the prior for a candidate without a score.
        sources: int8 [n], indices into `SOURCES`.
        missing: the number of candidates without a score.
        reason: why scores are missing.
        queue_s, predict_s: seconds in the queue, and from leaving it to the last reply.
        batch_rows: rows of the largest batch with rows of this request.
        gone: whether scores are missing because no model server has the version any more.
        overloaded: whether scores are missing because the queue or the model servers were full.
        is_from_model: whether one call to the model has scored all candidates.
    """

    version: ModelVersion
    encoded: EncodedRequest
    deadline: Deadline
    ctr: F32
    sources: I8
    trace: RequestTrace | None = None
    missing: int = 0
    reason: str | None = None
    queue_s: float = 0.0
    predict_s: float = 0.0
    batch_rows: int = 0
    gone: bool = False
    overloaded: bool = False
    is_from_model: bool = False


@dataclass(slots=True)
class HitRatio:
    """The share of candidates that the cache knew: a moving mean over recent requests.

    While it is below `minimum`, one request in 16 uses the cache. The choice is by the request's user and context, so
    that a chosen request's repeats are chosen too, and the ratio measured on them holds for all requests.
    """

    minimum: float
    value: float = 1.0

    @property
    def is_sufficient(self) -> bool:
        """Whether every request uses the cache."""
        return self.value >= self.minimum

    def uses_cache(self, encoded: EncodedRequest) -> bool:
        """Whether this request uses the cache."""
        return self.is_sufficient or xxhash.xxh3_64_intdigest(request_key(encoded)) % _PROBE_EVERY == 0

    def observe(self, known: int, size: int) -> None:
        """Adds one request with `known` cached scores of `size` candidates."""
        self.value += _FORGET * (known / size - self.value)


@dataclass(slots=True)
class Scores:
    """Finds each candidate's score: the cached one, else the model's, else a prior.

    Invariants:
    1. Single flight: while one request, the leader, waits for a row's score, the other requests that need the row
       follow it and do not request the row again.
    2. If the leader gets no score for a row, a follower with time left requests the row itself.
    3. Only scores of the model enter the cache, never errors or priors.
    """

    cache: ScoreCache | None
    dispatcher: Dispatcher
    metrics: Metrics
    clock: Callable[[], float]
    hit_ratio: HitRatio
    unknown_get_priors: bool = False
    """Whether the model scores no ad that the table does not contain."""
    _priors: dict[str, Priors] = field(default_factory=lambda: defaultdict(Priors))
    _generations: dict[str, int] = field(default_factory=dict)
    _leaders: dict[int, asyncio.Future[None]] = field(default_factory=dict)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def would_miss_deadline(self, version: ModelVersion, deadline: Deadline) -> bool:
        """Whether a new request would get no score in time; False if the cache may have its scores."""
        if self.cache is not None and self.hit_ratio.is_sufficient:
            return False
        queue = self.dispatcher.queue
        if not queue.holds_a_batch:
            return False
        calls = self.dispatcher.concurrency.concurrency_limit()
        return queue.would_miss_deadline(version, deadline, self.clock(), calls=calls)

    async def score(
        self,
        version: ModelVersion,
        encoded: EncodedRequest,
        deadline: Deadline,
        default_prior: float,
        trace: RequestTrace | None = None,
    ) -> ScoredRequest:
        """Scores n candidates by `deadline`; one without a score gets its ad's or the default prior."""
        n = encoded.size
        ctr, sources = np.zeros(n, dtype=np.float32), np.empty(n, dtype=np.int8)
        sources.fill(FROM_PRIOR)
        scored = ScoredRequest(version, encoded, deadline, ctr, sources, trace)
        skipped = encoded.unknown if self.unknown_get_priors else None
        rows = np.arange(n) if skipped is None else np.flatnonzero(~skipped)
        if not len(rows):
            pass
        elif self.cache is not None and self.hit_ratio.uses_cache(encoded):
            await self._score_cached(scored, self.cache, rows)
        else:
            if self.cache is not None:
                self.metrics.cache_bypassed.inc(len(rows))
            await self._call_model(scored, rows)
        priors = self._priors_of(version)
        if scored.is_from_model:
            priors.learn(encoded.ad_keys, ctr)
            return scored
        fresh, unknown = sources == FROM_MODEL, sources == FROM_PRIOR
        found, scored.missing = int(np.count_nonzero(fresh)), int(np.count_nonzero(unknown))
        if found:
            priors.learn(encoded.ad_keys[fresh], ctr[fresh])
        if scored.missing:
            ctr[unknown] = priors.lookup(encoded.ad_keys[unknown], default_prior)
        else:
            scored.reason, scored.gone, scored.overloaded = None, False, False
        if skipped is not None:
            scored.reason = "; ".join(filter(None, (unknown_ads.reason(encoded), scored.reason)))
        return scored

    def _priors_of(self, version: ModelVersion) -> Priors:
        """The priors of a model; new ones when another object has replaced one of its versions."""
        if version.generation > self._generations.get(version.name, 0):
            self._generations[version.name] = version.generation
            self._priors.pop(version.name, None)
        return self._priors[version.name]

    async def _score_cached(self, scored: ScoredRequest, cache: ScoreCache, rows: Positions) -> None:
        """Takes cached scores, leads the rows without a leader, and follows the leaders of the rest."""
        size, keys = len(rows), scored.encoded.keys
        rows, leaders = self._look_up(scored, cache, rows, keys if size == scored.encoded.size else keys[rows])
        self.hit_ratio.observe(size - len(rows), size)
        self.metrics.cache_hits.inc(size - len(rows))
        self.metrics.cache_misses.inc(len(rows))
        if scored.trace is not None:
            scored.trace.stage("look up", hits=size - len(rows), misses=len(rows))
        while True:
            active = {leader: self._leaders[leader] for leader in set(leaders.tolist()) if leader in self._leaders}
            followed = np.isin(leaders, list(active))
            if not followed.all():
                await self._lead(scored, cache, rows[~followed])
            if not active:
                return
            rows = rows[followed]
            self.metrics.cache_single_flight.inc(len(rows))
            left = scored.deadline.remaining(self.clock()) - self.dispatcher.queue.margin_s
            _, late = await asyncio.wait(active.values(), timeout=max(0.0, left))
            rows, leaders = self._look_up(scored, cache, rows, scored.encoded.keys[rows])
            if scored.trace is not None:
                scored.trace.stage("follow")
            if late:
                # No call would reply in time, and a reservation would replace the leader's.
                scored.reason = DEADLINE_PASSED
                return

    def _look_up(
        self, scored: ScoredRequest, cache: ScoreCache, rows: Positions, keys: U64
    ) -> tuple[Positions, Leaders]:
        """Takes the cached scores of `rows`; returns the other rows and their leaders."""
        found = cache.lookup(scored.version, keys, self.clock())
        known = rows[found.known]
        scored.ctr[known] = found.ctr[found.known]
        scored.sources[known] = FROM_CACHE
        return rows[~found.known], found.leader[~found.known]

    async def _lead(self, scored: ScoredRequest, cache: ScoreCache, rows: Positions) -> None:
        """Requests rows from the model as their leader; other requests can follow until it returns."""
        leader = 1 + next(self._numbers) % _LEADER_IDS
        finished = self._leaders[leader] = asyncio.get_running_loop().create_future()
        encoded, until = scored.encoded, scored.deadline.at
        reservation = cache.reserve(scored.version, encoded.keys, rows, leader, now=self.clock(), until=until)
        try:
            await self._call_model(scored, rows)
        finally:
            cache.fill(reservation, scored.ctr, scored.sources == FROM_MODEL, self.clock())
            del self._leaders[leader]
            finished.set_result(None)

    async def _call_model(self, scored: ScoredRequest, rows: Positions) -> None:
        start = self.clock()
        priority = partial(self._priors[scored.version.name].lookup, scored.encoded.ad_keys, 0.0)
        ticket = Ticket(scored.version, scored.encoded, rows, scored.deadline, start, priority, trace=scored.trace)
        pending = await self.dispatcher.score(ticket)
        if scored.trace is not None:
            scored.trace.called(start, pending.left, pending.replied)
        if pending.reason is None and len(rows) == scored.encoded.size:
            scored.ctr[:] = pending.ctr
            scored.sources.fill(FROM_MODEL)
            scored.is_from_model = True
        else:
            scored.ctr[pending.done] = pending.ctr[pending.done]
            scored.sources[pending.done] = FROM_MODEL
        scored.reason = pending.reason or scored.reason
        scored.gone |= pending.gone
        scored.overloaded |= pending.overloaded
        scored.batch_rows = max(scored.batch_rows, pending.batch_rows)
        if pending.left:
            scored.queue_s += pending.left - start
            scored.predict_s += (pending.replied or self.clock()) - pending.left
