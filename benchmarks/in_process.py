"""The scorer's client of simulated servers in the same process, for a virtual clock."""

import asyncio
import random
from collections.abc import Mapping
from typing import Any, NoReturn, cast

import grpc

from benchmarks.fixed_limit import replicas_of
from sandbox.model_server.replies import Context
from sandbox.model_server.simulated import SimulatedServer
from streamer.errors import PredictError
from streamer.serving.predict_call import message_of
from streamer.serving.predictor import Predictor
from streamer.serving.transport import CallHeaders, Rpc
from streamer.settings.sections import PredictorSettings


class _Context:
    """The part of a call's context that a simulated server uses."""

    async def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        raise PredictError(code.name, details)


class InProcessChannel:
    """Calls a simulated server without a network; a round trip takes `round_trip_s`."""

    def __init__(self, address: str, server: SimulatedServer, round_trip_s: float) -> None:
        self.address = address
        self._server = server
        self._one_way_s = round_trip_s / 2

    async def call(self, rpc: Rpc, request: Any, seconds: float, headers: CallHeaders = ()) -> Any:
        """A Predict call."""
        assert rpc == "Predict"
        try:
            async with asyncio.timeout(seconds):
                await asyncio.sleep(self._one_way_s)
                try:
                    return await self._server.predict(message_of(request), cast(Context, _Context()))
                finally:
                    await asyncio.sleep(self._one_way_s)
        except TimeoutError:
            raise PredictError("DEADLINE_EXCEEDED", "the server was too slow") from None

    async def close(self, grace_s: float | None = None) -> None:
        """Does nothing."""


def predictor_of(
    servers: Mapping[str, SimulatedServer], seed: int = 1, *, round_trip_s: float = 0.0, fixed: int | None = None
) -> Predictor:
    """A client of servers by address, on the clock of the running loop.

    `fixed`: a fixed limit of calls to each.
    """
    settings = PredictorSettings(addresses=tuple(servers))
    replicas = replicas_of(settings, fixed, random.Random(seed).random)
    return Predictor(
        settings,
        clock=asyncio.get_running_loop().time,
        replicas=replicas,
        connect=lambda address, _: InProcessChannel(address, servers[address], round_trip_s),
    )
