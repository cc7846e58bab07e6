"""Which version serves: switches, guards, an operator's word, on a real gRPC server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
import structlog

from streamer.cache import ScoreCache
from streamer.errors import PredictError
from streamer.metrics import Metrics
from streamer.models import Models
from streamer.predictor import Predictor
from streamer.settings import CacheSettings, Settings
from streamer.types import ModelVersion
from tests.streamer.model_servers import Server, reply_of
from tests.streamer.specs import small_spec

SPEC = small_spec().to_json()


def low(request: Any) -> Any:
    """Scores of about 2 %, as many as there are candidates."""
    rows = request.inputs["candidate_ids"].tensor_shape.dim[0].size
    return reply_of(np.full(rows, 0.02, np.float32))


@asynccontextmanager
async def models_of(server: Server, **guard: float) -> AsyncIterator[tuple[Models, Metrics]]:
    server.answer = low
    server.spec = SPEC
    async with server.running():
        settings = Settings.model_validate(
            {"predictor": {"addresses": [server.address]}, "guard": {"watched_calls": 50, "min_rows": 100, **guard}}
        )
        metrics = Metrics()
        predictor = Predictor(settings.predictor, metrics)
        cache = ScoreCache(CacheSettings(max_bytes=2**16))
        log = structlog.get_logger()
        clock = iter(range(10**6)).__next__
        try:
            yield Models(predictor, settings, cache, metrics=metrics, log=log, clock=lambda: float(clock())), metrics
        finally:
            await predictor.close()


def serving(models: Models) -> int | None:
    return None if models.serving is None else models.serving.version.version


def calls(models: Models, version: int, ctr: float, count: int = 20) -> None:
    for _ in range(count):
        models.scored(ModelVersion("ctr", version), np.full(10, ctr, np.float32))


async def test_the_first_version_serves_once_it_is_warm() -> None:
    server = Server(versions=(4,))
    async with models_of(server) as (models, _):
        await models.refresh()
        assert serving(models) == 4
        assert server.calls == 1, "it has scored before it serves"
        assert models.describe() == {
            "model": "ctr", "serving": 4, "previous": None, "pinned_by_operator": None, "rolled_back": [],
        }  # fmt: skip


async def test_a_newer_version_takes_over_and_is_trusted_when_it_behaves() -> None:
    server = Server(versions=(1,))
    async with models_of(server) as (models, metrics):
        await models.refresh()
        calls(models, 1, 0.02)
        server.versions = (1, 2)
        await models.refresh()
        calls(models, 2, 0.02, count=60)
        assert serving(models) == 2
        assert metrics.registry.get_sample_value("streamer_versions_rollbacks_total") == 0


async def test_a_version_whose_scores_jump_is_rolled_back_and_stays_away() -> None:
    server = Server(versions=(1,))
    async with models_of(server) as (models, metrics):
        await models.refresh()
        calls(models, 1, 0.02)
        server.versions = (1, 2)
        await models.refresh()
        calls(models, 2, 0.7)
        assert serving(models) == 1
        assert metrics.registry.get_sample_value("streamer_versions_rollbacks_total") == 1
        await models.refresh()
        assert serving(models) == 1
        assert models.describe()["rolled_back"] == [2]
        server.versions = (1, 2, 3)
        await models.refresh()
        assert serving(models) == 3


async def test_a_version_that_fails_is_rolled_back_but_not_for_a_server_that_is_gone() -> None:
    server = Server(versions=(1,))
    async with models_of(server) as (models, _):
        await models.refresh()
        server.versions = (1, 2)
        await models.refresh()
        for _ in range(30):
            models.failed(ModelVersion("ctr", 2), PredictError("UNAVAILABLE", "gone"))
        assert serving(models) == 2
        for _ in range(30):
            models.failed(ModelVersion("ctr", 2), PredictError("INTERNAL", "no such op"))
        assert serving(models) == 1


async def test_an_operator_pins_unpins_and_rolls_back() -> None:
    server = Server(versions=(1, 2, 3))
    async with models_of(server) as (models, _):
        await models.refresh()
        with pytest.raises(LookupError, match="no other version"):
            models.roll_back("asked")
        await models.pin(2)
        assert serving(models) == 2
        server.versions = (1, 2, 3, 4)
        await models.refresh()
        assert serving(models) == 2
        with pytest.raises(PredictError, match="version 9 of 'ctr' is not AVAILABLE"):
            await models.pin(9)
        models.unpin()
        await models.refresh()
        assert serving(models) == 4
        assert models.roll_back("asked") == 2
        await models.refresh()
        assert serving(models) == 2
        models.unpin()
        await models.refresh()
        assert serving(models) == 4


async def test_a_pinned_version_is_not_judged() -> None:
    server = Server(versions=(1, 2))
    async with models_of(server) as (models, _):
        await models.pin(1)
        calls(models, 1, 0.02)
        await models.pin(2)
        calls(models, 2, 0.9)
        assert serving(models) == 2


async def test_a_version_that_vanished_is_replaced_and_never_gone_back_to() -> None:
    server = Server(versions=(5,))
    async with models_of(server) as (models, _):
        await models.refresh()
        calls(models, 5, 0.02)
        server.versions = (3, 4)
        await models.refresh()
        assert serving(models) == 4
        calls(models, 4, 0.9)
        assert serving(models) == 4
        assert models.describe()["previous"] is None
