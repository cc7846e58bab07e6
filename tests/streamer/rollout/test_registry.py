"""Several models of one worker: the trouble of one does not delay the others."""

import asyncio

import pytest
import structlog

from streamer.assembly import Assembly
from streamer.errors import PredictError
from streamer.metrics import Metrics
from streamer.settings import Settings
from streamer.testing.model_servers import VirtualServers
from streamer.testing.virtual_loop import virtual
from streamer.types import Availability
from tests.streamer.rollout.switching import loaded


class OneHangs(VirtualServers):
    """Servers that take 60 s to answer questions about the model `slow`, with an error."""

    async def available(self, model: str) -> Availability:
        if model == "slow":
            await asyncio.sleep(60.0)  # of the virtual clock
            raise PredictError("UNAVAILABLE", "injected fault")
        return await super().available(model)


@virtual
async def test_a_model_that_cannot_be_asked_does_not_delay_another_one() -> None:
    loop = asyncio.get_running_loop()
    settings = Settings.model_validate({"predictor": {"models": ["slow", "fast"]}})
    assembly = Assembly(settings, Metrics(), structlog.get_logger(), loop.time, lambda work, _: loop.create_task(work))
    models = assembly.models(OneHangs([loaded(1)]), None)
    refresh = asyncio.create_task(models.refresh())
    await asyncio.sleep(1.0)  # of the virtual clock
    fast = models.of("fast")
    assert fast is not None
    assert fast.describe()["serving"] == 1
    with pytest.raises(PredictError, match="injected fault"):
        await refresh
