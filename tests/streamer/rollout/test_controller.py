"""The model controller with a real gRPC server: rollouts, verdicts, orders."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
import structlog

from streamer.errors import PredictError
from streamer.metrics import Metrics
from streamer.rollout.controller import ModelController
from streamer.scoring.cache import ScoreCache
from streamer.serving.predictor import Predictor
from streamer.serving.replies import scores_reply
from streamer.serving.warmup import Preparer
from streamer.settings import Settings
from streamer.settings.sections import CacheSettings
from streamer.types import ModelVersion
from tests.streamer.serving.model_servers import Server, low
from tests.streamer.specs import small_spec

SPEC = small_spec().to_json()
LABEL = {"model": "ctr"}
PREPARING = 3  # calls: to warm the version, and to record its scores twice


@asynccontextmanager
async def model_of(
    server: Server, *, ramp_s: float = 0.0, now: list[float] | None = None
) -> AsyncIterator[tuple[ModelController, Metrics]]:
    server.answer = low
    server.spec = SPEC
    async with server.running():
        settings = Settings.model_validate(
            {
                "predictor": {"addresses": [server.address], "control_timeout_ms": 60_000},
                "rollout": {"ramp_s": ramp_s},
                "guard": {"watched_calls": 50, "min_rows": 100},
            }
        )
        metrics = Metrics()
        predictor = Predictor(settings.predictor, metrics)
        cache = ScoreCache(CacheSettings(max_bytes=2**16))
        log = structlog.get_logger()
        time = [0.0] if now is None else now
        try:
            shared: dict[str, Any] = {"metrics": metrics, "log": log, "clock": lambda: time[0]}
            preparer = Preparer(predictor.control, settings)
            yield ModelController("ctr", predictor.control, preparer, settings, cache, **shared), metrics
        finally:
            await predictor.close()


def serving(model: ModelController) -> object:
    return model.describe()["serving"]


def share_of(model: ModelController, version: int) -> float:
    """The share of some users that have this version now."""
    users = [f"user-{i}".encode() for i in range(1000)]
    return sum(model.serving_for(user).version.version == version for user in users) / len(users)


def calls(model: ModelController, version: int, ctr: float, count: int = 20) -> None:
    for _ in range(count):
        model.scored(ModelVersion("ctr", version), np.full(10, ctr, np.float32))


async def test_the_first_version_serves_once_it_is_warm() -> None:
    server = Server(versions=(4,))
    async with model_of(server) as (model, _):
        await model.refresh()
        assert serving(model) == 4
        assert server.calls == PREPARING, "it has scored before it serves"
        assert model.describe() == {
            "model": "ctr", "label": None, "serving": 4, "incoming": None, "previous": None, "canary": None,
            "shadow": None, "pinned": None, "rolled_back": [], "bad": {},
        }  # fmt: skip


async def test_a_version_that_reads_none_of_the_recent_requests_is_warmed_all_the_same() -> None:
    server = Server(versions=(4,))
    async with model_of(server) as (model, _):
        await model.refresh()
        model.preparer.remember(b'{"request_id": "r", "candidates": [{"another_ad_id": "a"}]}', [])
        server.versions = (4, 5)
        await model.refresh()
        assert serving(model) == 5
        assert server.calls == 2 * PREPARING, "it has scored before it serves"


async def test_a_newer_version_takes_over_and_is_trusted_when_it_behaves() -> None:
    server = Server(versions=(1,))
    async with model_of(server) as (model, metrics):
        await model.refresh()
        calls(model, 1, 0.02)
        server.versions = (1, 2)
        await model.refresh()
        calls(model, 2, 0.02, count=60)
        assert serving(model) == 2
        assert metrics.registry.get_sample_value("streamer_rollout_rollbacks_total", LABEL) is None


async def test_a_version_whose_scores_jump_is_rolled_back_and_stays_away() -> None:
    server = Server(versions=(1,))
    async with model_of(server) as (model, metrics):
        await model.refresh()
        calls(model, 1, 0.02)
        server.versions = (1, 2)
        await model.refresh()
        calls(model, 2, 0.7)
        assert serving(model) == 1
        assert metrics.registry.get_sample_value("streamer_rollout_rollbacks_total", LABEL) == 1
        await model.refresh()
        assert serving(model) == 1
        assert model.describe()["rolled_back"] == [2]
        server.versions = (1, 2, 3)
        await model.refresh()
        assert serving(model) == 3


async def test_a_version_that_fails_is_rolled_back_but_not_for_a_server_that_is_gone() -> None:
    server = Server(versions=(1,))
    async with model_of(server) as (model, _):
        await model.refresh()
        server.versions = (1, 2)
        await model.refresh()
        for _ in range(30):
            model.failed(ModelVersion("ctr", 2), PredictError("UNAVAILABLE", "gone"))
        assert serving(model) == 2
        for _ in range(30):
            model.failed(ModelVersion("ctr", 2), PredictError("INTERNAL", "no such op"))
        assert serving(model) == 1


async def test_a_server_that_is_busy_costs_a_version_no_pause() -> None:
    server = Server(versions=(1,))
    async with model_of(server) as (model, _):
        server.answer = lambda _: scores_reply(np.zeros(1, np.float32))  # a wrong count: the version's own fault
        with pytest.raises(PredictError, match="INVALID_REPLY"):
            await model.refresh()
        server.answer = low
        with pytest.raises(PredictError, match="UNAVAILABLE: version 1: INVALID_REPLY"):
            await model.refresh()
    server = Server(versions=(1,))
    async with model_of(server) as (model, _):
        server.busy = True
        with pytest.raises(PredictError, match="RESOURCE_EXHAUSTED"):
            await model.refresh()
        server.busy = False
        await model.refresh()
        assert serving(model) == 1


async def test_an_operator_pins_unpins_and_rolls_back() -> None:
    server = Server(versions=(1, 2, 3))
    async with model_of(server) as (model, _):
        await model.refresh()
        with pytest.raises(LookupError, match="no other version"):
            model.roll_back("asked")
        await model.pin(2)
        assert serving(model) == 2
        server.versions = (1, 2, 3, 4)
        await model.refresh()
        assert serving(model) == 2
        with pytest.raises(PredictError, match="version 9 of 'ctr' is not AVAILABLE"):
            await model.pin(9)
        model.unpin()
        await model.refresh()
        assert serving(model) == 4
        assert model.roll_back("asked") == 2
        await model.refresh()
        assert serving(model) == 2
        model.unpin()
        await model.refresh()
        assert serving(model) == 4


async def test_a_pinned_version_is_not_judged() -> None:
    server = Server(versions=(1, 2))
    async with model_of(server) as (model, _):
        await model.pin(1)
        calls(model, 1, 0.02)
        await model.pin(2)
        calls(model, 2, 0.9)
        assert serving(model) == 2


async def test_a_version_that_vanished_is_replaced_and_never_gone_back_to() -> None:
    server = Server(versions=(5,))
    async with model_of(server) as (model, _):
        await model.refresh()
        calls(model, 5, 0.02)
        server.versions = (3, 4)
        await model.refresh()
        assert serving(model) == 4
        calls(model, 4, 0.9)
        assert serving(model) == 4
        assert model.describe()["previous"] is None


# Ramps and canaries


async def test_users_move_over_by_share() -> None:
    server, now = Server(versions=(1,)), [0.0]
    async with model_of(server, ramp_s=10.0, now=now) as (model, metrics):
        await model.refresh()
        server.versions = (1, 2)
        await model.refresh()
        assert (serving(model), share_of(model, 2)) == (1, 0.0)
        now[0] = 3.0
        await model.refresh()
        assert share_of(model, 2) == pytest.approx(0.3, abs=0.05)
        assert metrics.registry.get_sample_value("streamer_rollout_incoming_share", LABEL) == pytest.approx(0.3)
        assert model.describe()["incoming"] == {"version": 2, "share": 0.3}
        now[0] = 10.0
        assert share_of(model, 2) == 1.0
        await model.refresh()
        assert serving(model) == 2
        assert model.describe()["incoming"] is None
        assert server.calls == 2 * PREPARING + 2, "each version was prepared once, and compared once"


async def test_an_incoming_version_that_misbehaves_loses_its_users_at_once() -> None:
    server, now = Server(versions=(1,)), [0.0]
    async with model_of(server, ramp_s=10.0, now=now) as (model, _):
        await model.refresh()
        calls(model, 1, 0.02)
        server.versions = (1, 2)
        await model.refresh()
        now[0] = 2.0
        assert share_of(model, 2) > 0.1
        calls(model, 2, 0.8)
        assert share_of(model, 2) == 0.0
        assert model.describe()["rolled_back"] == [2]
        now[0] = 20.0
        await model.refresh()
        assert serving(model) == 1


async def test_an_incoming_version_that_vanishes_is_forgotten() -> None:
    server, now = Server(versions=(1,)), [0.0]
    async with model_of(server, ramp_s=10.0, now=now) as (model, _):
        await model.refresh()
        server.versions = (1, 2)
        await model.refresh()
        now[0] = 5.0
        server.versions = (1,)
        await model.refresh()
        assert share_of(model, 1) == 1.0
        assert model.describe()["incoming"] is None


async def test_a_newer_one_takes_the_place_of_an_incoming_one() -> None:
    server, now = Server(versions=(1,)), [0.0]
    async with model_of(server, ramp_s=10.0, now=now) as (model, _):
        await model.refresh()
        server.versions = (1, 2)
        await model.refresh()
        now[0] = 5.0
        server.versions = (1, 2, 3)
        await model.refresh()
        assert share_of(model, 1) == 1.0
        now[0] = 15.0
        await model.refresh()
        assert serving(model) == 3


async def test_a_canary_keeps_its_share_until_an_operator_ends_it() -> None:
    server, now = Server(versions=(1, 2)), [0.0]
    async with model_of(server, now=now) as (model, _):
        await model.pin(1)
        await model.canary(2, 0.1)
        server.versions = (1, 2, 3)
        now[0] = 1000.0
        await model.refresh()
        assert share_of(model, 2) == pytest.approx(0.1, abs=0.03)
        model.unpin()
        assert share_of(model, 1) == 1.0
        await model.canary(2, 0.5)
        await model.pin(2)
        assert share_of(model, 2) == 1.0
        with pytest.raises(PredictError, match="version 7"):
            await model.canary(7, 0.1)


async def test_pinning_what_serves_ends_a_move() -> None:
    server, now = Server(versions=(1,)), [0.0]
    async with model_of(server, ramp_s=10.0, now=now) as (model, _):
        await model.refresh()
        server.versions = (1, 2)
        await model.refresh()
        await model.pin(1)
        now[0] = 20.0
        await model.refresh()
        assert (serving(model), share_of(model, 1)) == (1, 1.0)


async def test_a_request_of_a_vanished_version_finds_its_successor() -> None:
    server = Server(versions=(1,))
    async with model_of(server) as (model, _):
        await model.refresh()
        one = ModelVersion("ctr", 1)
        assert await model.successor(one, b"u", 0.01) is None
        waiting = asyncio.create_task(model.successor(one, b"u", 600.0))
        await asyncio.sleep(0)
        server.versions = (2,)
        await model.refresh()
        found = await waiting
        assert found is not None
        assert found.version.version == 2
        at_once = await model.successor(one, b"u", 0.0)
        assert at_once is found


async def test_a_request_of_a_vanished_incoming_version_returns_to_the_serving_one() -> None:
    server = Server(versions=(1, 2))
    async with model_of(server) as (model, _):
        await model.pin(1)
        await model.canary(2, 0.99)
        assert model.serving_for(b"u").version.version == 2
        waiting = asyncio.create_task(model.successor(ModelVersion("ctr", 2), b"u", 600.0))
        await asyncio.sleep(0)
        server.versions = (1,)
        await model.refresh()
        async with asyncio.timeout(10.0):
            found = await waiting
        assert found is not None
        assert found.version.version == 1


async def test_a_request_waits_on_while_another_version_than_its_own_loses_its_users() -> None:
    server = Server(versions=(1, 2))
    async with model_of(server) as (model, _):
        await model.pin(1)
        await model.canary(2, 0.0)
        waiting = asyncio.create_task(model.successor(ModelVersion("ctr", 1), b"u", 600.0))
        await asyncio.sleep(0)
        model.unpin()
        await asyncio.sleep(0)
        assert not waiting.done()
        await model.refresh()
        found = await waiting
        assert found is not None
        assert found.version.version == 2


# Shadow


async def test_a_version_in_the_shadow_scores_a_share_of_the_users_besides() -> None:
    server = Server(versions=(1, 2))
    async with model_of(server) as (model, _):
        await model.pin(1)
        await model.shadow(2, 0.3)
        users = [f"user-{i}".encode() for i in range(1000)]
        shadowed = [model.shadow_for(user) for user in users]
        assert sum(serving is not None for serving in shadowed) == pytest.approx(300, abs=50)
        assert {serving.version.version for serving in shadowed if serving} == {2}
        assert share_of(model, 1) == 1.0, "the answers do not change"
        assert model.describe()["shadow"] == {"version": 2, "share": 0.3}
        await model.shadow(2, 0.0)
        assert model.describe()["shadow"] is None
        with pytest.raises(PredictError, match="version 9"):
            await model.shadow(9, 0.5)


async def test_a_version_in_the_shadow_that_vanishes_is_forgotten() -> None:
    server = Server(versions=(1, 2))
    async with model_of(server) as (model, _):
        await model.pin(1)
        await model.shadow(2, 1.0)
        server.versions = (1,)
        await model.refresh()
        assert model.shadow_for(b"u") is None


async def test_a_version_whose_folder_was_replaced_while_the_server_was_down_is_prepared_again() -> None:
    server, now = Server(versions=(4,)), [0.0]
    async with model_of(server, now=now) as (model, metrics):
        await model.refresh()
        old = model.serving_for(None)
        model.failed(old.version, PredictError("UNAVAILABLE", "the server restarts"))
        await model.refresh()
        assert model.serving_for(None) is old, "it is the same"
        server.spec = SPEC.replace('"prior":0.02', '"prior":0.5')
        now[0] = 9.0
        await model.refresh()
        assert model.serving_for(None) is old, "nothing points to a restart"
        now[0] = 10.0
        await model.refresh()
        new = model.serving_for(None)
        assert (new.prior, old.prior, str(new.version)) == (0.5, 0.02, "ctr/4")
        assert new.version != old.version
        server.answer = lambda request: scores_reply(np.full(_rows(request), 0.03, np.float32))
        model.failed(new.version, PredictError("UNAVAILABLE", "the server restarts"))
        await model.refresh()
        assert model.serving_for(None).version.generation == 2, "its weights differ"
        assert metrics.registry.get_sample_value("streamer_rollout_replaced_versions_total", LABEL) == 2


def _rows(request: Any) -> int:
    return int(request.inputs["candidate_ids"].tensor_shape.dim[0].size)
