"""A serving version and a canary that follow labels; `test_switches` has the races."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
import structlog

from streamer.errors import PredictError
from streamer.metrics import Metrics
from streamer.rollout.controller import ModelController
from streamer.serving.predictor import Predictor
from streamer.serving.warmup import Preparer
from streamer.settings import Settings
from streamer.types import ModelVersion
from tests.streamer.serving.model_servers import Server, low
from tests.streamer.specs import small_spec

USERS = [f"user-{i}".encode() for i in range(1000)]


@asynccontextmanager
async def model_of(server: Server, now: list[float], *, label: str | None = "stable") -> AsyncIterator[ModelController]:
    """A model that follows the label, with a ramp of 10 s."""
    server.answer, server.spec = low, small_spec().to_json()
    async with server.running():
        labels = {} if label is None else {"ctr": label}
        settings = Settings.model_validate(
            {
                "predictor": {"addresses": [server.address], "control_timeout_ms": 60_000, "labels": labels},
                "rollout": {"ramp_s": 10.0},
                "guard": {"watched_calls": 50, "min_rows": 100},
            }
        )
        predictor = Predictor(settings.predictor)
        log = structlog.get_logger()
        try:
            shared: dict[str, Any] = {"metrics": Metrics(), "log": log, "clock": lambda: now[0]}
            preparer = Preparer(predictor.control, settings)
            yield ModelController("ctr", predictor.control, preparer, settings, None, **shared)
        finally:
            await predictor.close()


def shares(model: ModelController) -> dict[int, float]:
    """The share of some users by version now, to a tenth."""
    served = [model.serving_for(user).version.version for user in USERS]
    return {version: round(served.count(version) / len(served), 1) for version in sorted(set(served))}


async def refresh(model: ModelController, now: list[float], at: float) -> dict[int, float]:
    now[0] = at
    await model.refresh()
    return shares(model)


def calls(model: ModelController, version: int, ctr: float) -> None:
    for _ in range(20):
        model.scored(ModelVersion("ctr", version), np.full(10, ctr, np.float32))


async def test_moving_a_label_moves_users_step_by_step_and_back_at_once() -> None:
    server, now = Server(versions=(1, 2, 3), labels={"stable": 1}), [0.0]
    async with model_of(server, now) as model:
        assert await refresh(model, now, 0.0) == {1: 1.0}
        assert model.describe()["label"] == "stable"
        server.labels["stable"] = 2
        await refresh(model, now, 1.0)
        assert await refresh(model, now, 6.0) == {1: 0.5, 2: 0.5}
        assert await refresh(model, now, 12.0) == {2: 1.0}
        server.labels["stable"] = 1
        assert await refresh(model, now, 13.0) == {1: 1.0}


async def test_a_way_back_is_not_judged() -> None:
    server, now = Server(versions=(1, 2), labels={"stable": 2}), [0.0]
    async with model_of(server, now) as model:
        await refresh(model, now, 0.0)
        calls(model, 2, 0.9)
        server.labels["stable"] = 1
        await refresh(model, now, 1.0)
        calls(model, 1, 0.02)
        assert await refresh(model, now, 2.0) == {1: 1.0}


async def test_a_label_that_goes_back_takes_the_users_with_it_that_were_on_their_way() -> None:
    server, now = Server(versions=(1, 2), labels={"stable": 1}), [0.0]
    async with model_of(server, now) as model:
        await refresh(model, now, 0.0)
        server.labels["stable"] = 2
        await refresh(model, now, 1.0)
        server.labels["stable"] = 1
        assert await refresh(model, now, 6.0) == {1: 1.0}
        assert await refresh(model, now, 60.0) == {1: 1.0}


async def test_a_version_that_was_rolled_back_does_not_come_again_by_its_label() -> None:
    server, now = Server(versions=(1, 2, 3), labels={"stable": 1}), [0.0]
    async with model_of(server, now) as model:
        await refresh(model, now, 0.0)
        calls(model, 1, 0.02)
        server.labels["stable"] = 2
        await refresh(model, now, 1.0)
        calls(model, 2, 0.9)
        assert await refresh(model, now, 60.0) == {1: 1.0}
        assert model.describe()["rolled_back"] == [2]
        server.labels["stable"] = 3
        await refresh(model, now, 61.0)
        assert await refresh(model, now, 72.0) == {3: 1.0}


async def test_a_label_that_no_server_knows_changes_nothing_but_at_the_start() -> None:
    server, now = Server(versions=(1, 2)), [0.0]
    async with model_of(server, now) as model:
        with pytest.raises(PredictError, match="label 'stable' of 'ctr': Unrecognized servable version label: stable"):
            await model.refresh()
        server.labels["stable"] = 1
        assert await refresh(model, now, 1.0) == {1: 1.0}
        server.labels.clear()
        with structlog.testing.capture_logs() as logs:
            for second in range(2, 10):
                assert await refresh(model, now, second) == {1: 1.0}
        assert [log["event"] for log in logs] == ["label not followed"], "once, not at every poll"
        server.versions = (2,)
        assert await refresh(model, now, 11.0) == {2: 1.0}, "the serving version has vanished"


async def test_an_operator_goes_before_a_label() -> None:
    server, now = Server(versions=(1, 2, 3), labels={"stable": 1}), [0.0]
    async with model_of(server, now) as model:
        await refresh(model, now, 0.0)
        await model.pin(3)
        server.labels["stable"] = 2
        assert await refresh(model, now, 1.0) == {3: 1.0}
        model.unpin()
        assert await refresh(model, now, 2.0) == {2: 1.0}


# The canary


async def test_a_canary_goes_where_its_label_goes() -> None:
    server, now = Server(versions=(1, 2, 3), labels={"canary": 2}), [0.0]
    async with model_of(server, now, label=None) as model:
        await model.pin(1)
        await model.canary("canary", 0.2)
        assert shares(model) == {1: 0.8, 2: 0.2}
        server.labels["canary"] = 3
        assert await refresh(model, now, 1.0) == {1: 0.8, 3: 0.2}
        assert model.describe()["canary"] == {"version": "canary", "share": 0.2}
        server.labels["canary"] = 1
        assert await refresh(model, now, 2.0) == {1: 1.0}
        server.labels.clear()
        assert await refresh(model, now, 3.0) == {1: 1.0}
        server.labels["canary"] = 2
        assert await refresh(model, now, 4.0) == {1: 0.8, 2: 0.2}
        server.labels.clear()
        assert await refresh(model, now, 5.0) == {1: 0.8, 2: 0.2}, "the canary keeps its version"
        with pytest.raises(PredictError, match="label 'other' of 'ctr'"):
            await model.canary("other", 0.5)
        server.labels["canary"] = 3
        model.unpin()
        assert model.describe()["canary"] is None
        assert await refresh(model, now, 6.0) == {1: 1.0}
        await model.canary("canary", 0.2)
        await model.pin(2)
        assert await refresh(model, now, 7.0) == {2: 1.0}


async def test_a_canary_that_was_rolled_back_waits_for_its_label_to_move() -> None:
    server, now = Server(versions=(1, 2, 3), labels={"canary": 2}), [0.0]
    async with model_of(server, now, label=None) as model:
        await model.pin(1)
        await model.canary("canary", 0.2)
        model.roll_back("asked")
        assert await refresh(model, now, 1.0) == {1: 1.0}
        server.labels["canary"] = 3
        assert await refresh(model, now, 2.0) == {1: 0.8, 3: 0.2}


async def test_a_canary_is_promoted_by_the_label_of_what_serves() -> None:
    server, now = Server(versions=(1, 2, 3), labels={"stable": 1, "canary": 2}), [0.0]
    async with model_of(server, now) as model:
        await refresh(model, now, 0.0)
        await model.canary("canary", 0.2)
        server.labels["stable"] = 2
        assert await refresh(model, now, 1.0) == {1: 0.8, 2: 0.2}, "its users keep it"
        assert await refresh(model, now, 5.0) == {1: 0.4, 2: 0.6}
        assert await refresh(model, now, 10.0) == {2: 1.0}
        server.labels["canary"] = 3
        assert await refresh(model, now, 11.0) == {2: 0.8, 3: 0.2}


@pytest.mark.parametrize("canary", ["canary", 3])
async def test_a_canary_waits_while_others_move_and_has_its_share_again(canary: int | str) -> None:
    server, now = Server(versions=(1, 2, 3), labels={"stable": 1, "canary": 3}), [0.0]
    async with model_of(server, now) as model:
        await refresh(model, now, 0.0)
        await model.canary(canary, 0.2)
        server.labels["stable"] = 2
        await refresh(model, now, 1.0)
        assert await refresh(model, now, 6.0) == {1: 0.5, 2: 0.5}
        assert await refresh(model, now, 12.0) == {2: 0.8, 3: 0.2}
        server.labels["stable"] = 1
        assert await refresh(model, now, 13.0) == {1: 0.8, 3: 0.2}
