"""The scorer's own channels pass the suite for those of other packages."""

from typing import Literal

import pytest

from streamer.serving.channel import Connector
from streamer.settings.sections import PredictorSettings
from streamer.testing.channel_suite import check_channel
from streamer.types import BatchInputs, ModelVersion
from tests.streamer.scoring.encoded import encoded
from tests.streamer.serving.model_servers import Server
from tests.streamer.specs import small_spec

V = ModelVersion("ctr", 3)


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
async def test_both_protocols_pass(protocol: Literal["grpc", "rest"], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "protocol", protocol)
    async with Server(strict=True, spec=small_spec().to_json()).running() as server:
        channel = Connector(PredictorSettings(protocol=protocol)).channel(server.address)
        scores = await check_channel(channel, V, BatchInputs.whole(encoded(1, 4)))
    assert scores.tolist() == pytest.approx([0.01, 0.010001, 0.010002, 0.010003])


async def test_a_channel_to_a_server_without_the_version_does_not_pass() -> None:
    async with Server(spec=small_spec().to_json(), versions=(2,)).running() as server:
        channel = Connector(PredictorSettings()).channel(server.address)
        with pytest.raises(AssertionError, match=r"ctr/3 is not among the AVAILABLE versions \[2\]"):
            await check_channel(channel, V, BatchInputs.whole(encoded(1, 4)))
        await channel.close()
