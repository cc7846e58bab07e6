"""Cache, single flight, bypass and priors together, on a virtual clock."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
import pytest

from streamer.deadline import Deadline
from streamer.errors import PredictError, VersionGoneError
from streamer.features.hashing import mix64
from streamer.metrics import Metrics
from streamer.scoring.cache import ScoreCache
from streamer.scoring.dispatcher import Dispatcher
from streamer.scoring.scores import HitRatio, ScoredRequest, Scores
from streamer.settings.sections import BatchingSettings, CacheSettings
from streamer.testing.virtual_loop import virtual
from streamer.types import F32, SOURCES, BatchInputs, EncodedRequest, ModelVersion
from tests.streamer.scoring.encoded import encoded, score_of, scores_of

A, B = ModelVersion("ctr", 1), ModelVersion("ctr", 2)
PRIOR = 0.25


def request(*ads: int, user: int = 1) -> EncodedRequest:
    """A request with a candidate for each number; equal numbers of one user are equal rows."""
    ids = np.array(ads, dtype=np.int32).reshape(-1, 1)
    keys = np.array([[a, user] for a in ads], dtype=np.uint64)
    return msgspec.structs.replace(
        encoded(user, len(ads)),
        candidate_ids=ids,
        candidate_floats=ids.astype(np.float32),
        pair_ids=np.hstack([ids, ids]),
        keys=mix64(keys * np.uint64(2**32) + keys[:, ::-1]),
        ad_keys=mix64(keys[:, 0]),
    )


@dataclass
class Rig:
    """Scores with a model that answers after `model_s`, or fails with `error`."""

    cache: bool = True
    model_s: float = 0.005
    max_concurrent_calls: int = 4
    max_batch_rows: int = 100
    minimum: float = 0.0
    error: PredictError | None = None
    calls: list[tuple[ModelVersion, list[int]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.metrics = Metrics()
        self.tasks: list[asyncio.Task[None]] = []
        dispatcher = Dispatcher(
            BatchingSettings(
                max_batch_rows=self.max_batch_rows,
                max_concurrent_calls=self.max_concurrent_calls,
                answer_margin_ms=2,
            ),
            self.predict,
            self.spawn,
            self.loop.time,
            self.metrics,
        )
        self.scores = Scores(
            ScoreCache(CacheSettings(max_bytes=2**20, ttl_s=10)) if self.cache else None,
            dispatcher,
            self.metrics,
            self.loop.time,
            HitRatio(self.minimum),
        )

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> object:
        task = self.loop.create_task(work, name=name)
        self.tasks.append(task)
        return task

    async def predict(self, version: ModelVersion, inputs: BatchInputs, deadline: Deadline) -> F32:
        self.calls.append((version, inputs.candidate_ids[:, 0].tolist()))
        error = self.error
        await asyncio.sleep(min(self.model_s, deadline.remaining(self.loop.time())))
        if error is not None:
            raise error
        return scores_of(inputs)

    def score(
        self, one: EncodedRequest, *, budget_ms: float = 100.0, version: ModelVersion = A
    ) -> asyncio.Task[ScoredRequest]:
        deadline = Deadline.after(self.loop.time(), budget_ms)
        return self.loop.create_task(self.scores.score(version, one, deadline, PRIOR))

    def count(self, metric: str) -> float:
        return self.metrics.registry.get_sample_value(f"streamer_{metric}_total") or 0.0


def sources(scored: ScoredRequest) -> list[str]:
    return [SOURCES[i] for i in scored.sources]


@virtual
async def test_a_repeated_row_is_not_requested_again() -> None:
    rig = Rig()
    first = await rig.score(request(1, 2, 3))
    second = await rig.score(request(3, 4, 1))
    assert rig.calls == [(A, [1, 2, 3]), (A, [4])]
    assert sources(first) == ["model"] * 3
    assert sources(second) == ["cache", "model", "cache"]
    assert np.array_equal(second.ctr, score_of(np.array([[3], [4], [1]], dtype=np.int32)))
    assert (rig.count("cache_hits"), rig.count("cache_misses")) == (2, 4)


@virtual
async def test_rows_of_an_active_call_are_followed_and_not_requested_again() -> None:
    rig = Rig()
    leader = rig.score(request(1, 2, 3))
    await asyncio.sleep(0.001)
    follower = rig.score(request(2, 5, 3))
    await asyncio.sleep(0.001)
    third = rig.score(request(5, 2))
    results = await asyncio.gather(leader, follower, third)
    assert rig.calls == [(A, [1, 2, 3]), (A, [5])]
    assert [sources(g) for g in results] == [["model"] * 3, ["cache", "model", "cache"], ["cache", "cache"]]
    assert np.array_equal(results[2].ctr, score_of(np.array([[5], [2]], dtype=np.int32)))
    assert rig.count("cache_single_flight") == 4


@virtual
async def test_equal_rows_of_one_request_are_all_answered() -> None:
    rig = Rig()
    scored = await rig.score(request(1, 1, 2, 1))
    assert sources(scored) == ["model"] * 4
    assert np.array_equal(scored.ctr, score_of(np.array([[1], [1], [2], [1]], dtype=np.int32)))
    again = await rig.score(request(2, 1))
    assert sources(again) == ["cache"] * 2


@virtual
async def test_a_request_does_not_follow_a_leader_of_another_version() -> None:
    rig = Rig()
    await asyncio.gather(rig.score(request(1)), rig.score(request(1), version=B))
    assert sorted(v.version for v, _ in rig.calls) == [1, 2]


@virtual
async def test_a_follower_requests_the_rows_itself_if_the_leader_fails() -> None:
    rig = Rig(error=PredictError("UNAVAILABLE", "gone"))
    leader = rig.score(request(1, 2))
    await asyncio.sleep(0.001)
    follower = rig.score(request(2, 1))
    await asyncio.sleep(0.001)
    rig.error = None
    failed, scored = await asyncio.gather(leader, follower)
    assert sources(failed) == ["prior"] * 2
    assert failed.reason == "UNAVAILABLE: gone"
    assert sources(scored) == ["model"] * 2
    assert scored.reason is None
    assert rig.calls == [(A, [1, 2]), (A, [2, 1])]


@virtual
async def test_errors_are_not_cached() -> None:
    rig = Rig(error=PredictError("UNAVAILABLE", "gone"))
    await rig.score(request(1))
    rig.error = None
    assert sources(await rig.score(request(1))) == ["model"]


@virtual
async def test_a_follower_does_not_wait_past_its_own_deadline() -> None:
    rig = Rig(model_s=0.05)
    leader = rig.score(request(1), budget_ms=100)
    await asyncio.sleep(0.001)
    start = rig.loop.time()
    follower = await rig.score(request(1), budget_ms=10)
    assert rig.loop.time() == pytest.approx(start + 0.008)
    assert sources(follower) == ["prior"]
    assert follower.reason == "the deadline passed before the reply"
    assert sources(await leader) == ["model"]


@virtual
async def test_an_expired_follower_does_not_replace_the_leaders_reservation() -> None:
    rig = Rig(model_s=0.05)
    leader = rig.score(request(1, 2), budget_ms=100)
    await asyncio.sleep(0.001)
    follower = await rig.score(request(1, 2), budget_ms=10)
    assert sources(follower) == ["prior"] * 2
    assert sources(await leader) == ["model"] * 2
    assert sources(await rig.score(request(1, 2))) == ["cache"] * 2
    assert rig.calls == [(A, [1, 2])]


@virtual
async def test_one_of_several_followers_becomes_the_leader_if_the_leader_fails() -> None:
    rig = Rig(error=PredictError("UNAVAILABLE", "gone"))
    leader = rig.score(request(1, 2))
    await asyncio.sleep(0.001)
    followers = [rig.score(request(2, 1)), rig.score(request(1)), rig.score(request(1, 2))]
    await asyncio.sleep(0.001)
    rig.error = None
    assert sources(await leader) == ["prior"] * 2
    results = await asyncio.gather(*followers)
    assert [sources(g) for g in results] == [["model"] * 2, ["cache"], ["cache"] * 2]
    assert all(np.array_equal(g.ctr, score_of(g.encoded.candidate_ids)) for g in results)
    assert [g.reason for g in results] == [None] * 3
    assert rig.calls == [(A, [1, 2]), (A, [2, 1])]


@virtual
async def test_a_cancelled_leader_releases_its_followers() -> None:
    rig = Rig(model_s=0.02)
    leader = rig.score(request(1))
    await asyncio.sleep(0.001)
    follower = rig.score(request(1))
    await asyncio.sleep(0.001)
    leader.cancel()
    assert sources(await follower) == ["model"]
    assert len(rig.calls) == 2


@virtual
async def test_a_follower_with_more_time_takes_over_from_an_expired_leader() -> None:
    rig = Rig(model_s=0.03)
    leader = rig.score(request(1), budget_ms=10)
    await asyncio.sleep(0.001)
    follower = rig.score(request(1), budget_ms=200)
    assert sources(await leader) == ["prior"]
    assert sources(await follower) == ["model"]


@virtual
async def test_a_missing_score_becomes_the_prior_of_its_ad() -> None:
    rig = Rig(cache=False)
    await rig.score(request(400_000, 800_000))
    rig.error = PredictError("UNAVAILABLE", "gone")
    scored = await rig.score(request(800_000, 7, 400_000, user=2))
    assert sources(scored) == ["prior"] * 3
    assert scored.ctr.tolist() == pytest.approx([0.8, PRIOR, 0.4])


@virtual
async def test_priors_are_learnt_from_scores_of_the_model_only() -> None:
    rig = Rig()
    await rig.score(request(400_000))
    rig.error = PredictError("UNAVAILABLE", "gone")
    assert sources(await rig.score(request(400_000, 5))) == ["cache", "prior"]
    scored = await rig.score(request(5, user=3))
    assert scored.ctr.tolist() == pytest.approx([PRIOR])


@virtual
async def test_a_replaced_version_has_neither_the_scores_nor_the_priors_of_the_object_before_it() -> None:
    rig = Rig()
    await rig.score(request(400_000))
    await rig.score(request(300_000), version=B)
    replaced = replace(A, generation=1)
    scored = await rig.score(request(400_000), version=replaced)
    assert sources(scored) == ["model"]
    rig.error = PredictError("UNAVAILABLE", "gone")
    scored = await rig.score(request(400_000, 300_000, user=2), version=replaced)
    assert scored.ctr.tolist() == pytest.approx([0.4, PRIOR])


@virtual
async def test_without_time_for_all_rows_those_with_the_highest_priors_are_scored() -> None:
    rig = Rig(cache=False, max_concurrent_calls=1, max_batch_rows=2, model_s=0.01)
    await rig.score(request(100_000, 900_000, 300_000, 700_000), budget_ms=1000)
    scored = await rig.score(request(100_000, 900_000, 300_000, 700_000, user=2), budget_ms=18)
    assert sources(scored) == ["prior", "model", "prior", "model"]
    assert scored.reason is not None


@virtual
async def test_a_vanished_version_is_reported() -> None:
    rig = Rig(error=VersionGoneError("NOT_FOUND", "ctr/1"))
    assert (await rig.score(request(1))).gone
    rig.error = PredictError("UNAVAILABLE", "connection refused")
    assert not (await rig.score(request(1))).gone


# The bypass


@virtual
async def test_with_a_low_hit_ratio_only_a_sample_uses_the_cache() -> None:
    rig = Rig(minimum=0.05, model_s=0.0)
    for user in range(600):
        await rig.score(request(1, 2, user=user))
    bypassed = rig.count("cache_bypassed") / 2
    looked_up = rig.count("cache_misses") / 2
    assert bypassed + looked_up == 600
    # The ratio starts at 1. After 300 misses it is below 0.05; then one request in 16 uses the cache.
    assert 200 < bypassed < 300
    assert looked_up > 310


@virtual
async def test_when_the_hit_ratio_rises_every_request_uses_the_cache_again() -> None:
    rig = Rig(minimum=0.05, model_s=0.0)
    rig.scores.hit_ratio.value = 0.0
    probed = [user for user in range(200) if rig.scores.hit_ratio.uses_cache(request(1, user=user))]
    assert 3 < len(probed) < 30
    for _ in range(12):
        await rig.score(request(1, user=probed[0]))
    assert rig.scores.hit_ratio.value > 0.05
    await rig.score(request(1, user=199))
    assert rig.count("cache_misses") == 2


def test_a_minimum_of_zero_never_bypasses() -> None:
    ratio = HitRatio(0.0)
    for _ in range(2000):
        ratio.observe(0, 300)
    assert ratio.uses_cache(request(1))
