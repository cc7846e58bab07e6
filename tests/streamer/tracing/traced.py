"""A worker with traces, on the virtual clock; its calls go through the scorer's client."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
import orjson

from streamer.deadline import Deadline
from streamer.errors import PredictError
from streamer.serving.predictor import Predictor
from streamer.serving.replies import scores_reply
from streamer.serving.transport import CallHeaders, Rpc
from streamer.settings.sections import PredictorSettings
from streamer.testing.model_servers import VirtualServers
from streamer.tracing.recording import Finished, Recorder
from streamer.tracing.span_tree import Span, SpanTree
from streamer.tracing.tracer import Tracer
from streamer.types import F32, BatchInputs, Header, ModelVersion, Origin, Record
from tests.streamer.rollout.switching import Worker, loaded

WAITED_S = 0.004
CALL_S = 0.005
ACKNOWLEDGED_S = 0.002


@dataclass
class Channel:
    """A connection whose calls take 5 ms; the first of them fail with `faults`."""

    address: str
    faults: list[str]
    headers: list[CallHeaders]

    async def call(self, rpc: Rpc, request: Any, seconds: float, headers: CallHeaders = ()) -> Any:
        self.headers.append(headers)
        await asyncio.sleep(CALL_S)  # of the virtual clock
        if self.faults:
            raise PredictError(self.faults.pop(0), "injected fault")
        return scores_reply(np.full(len(request.arrays["row_to_request"]), 0.0105, np.float32))

    async def close(self, grace_s: float | None = None) -> None:
        """Does nothing."""


class Servers(VirtualServers):
    """Fake servers whose calls go through the scorer's client, as soon as the version is prepared.

    Attributes:
        faults: the codes with which the next calls fail.
        headers: those of each call.
    """

    def __init__(self) -> None:
        super().__init__([loaded(1)])
        self.faults: list[str] = []
        self.headers: list[CallHeaders] = []
        self._predictor = Predictor(
            PredictorSettings(addresses=("server:8500",), retry_share=1.0),
            clock=asyncio.get_running_loop().time,
            connect=lambda address, _: Channel(address, self.faults, self.headers),
        )

    async def score(self, version: ModelVersion, inputs: BatchInputs, seconds: float) -> F32:
        return await self._predictor.score(version, inputs, seconds)


class TracedWorker(Worker):
    """A worker that samples `share`; its brokers acknowledge after 2 ms.

    Attributes:
        finished: what the requests recorded.
        headers: those of each answer.
    """

    def __init__(self, share: float = 1.0, *, cache: bool = False) -> None:
        self.fakes = Servers()
        super().__init__(self.fakes, cache=cache)
        self.finished_traces: list[Finished] = []
        self.headers: dict[int, Sequence[Header]] = {}
        self.recorder = Recorder(self.loop.time, self.finished_traces.append, Random(1))
        self.pipeline = replace(self.pipeline, tracer=Tracer(share, self.recorder))

    async def publish(self, origin: Origin, key: bytes | None, value: bytes, headers: Sequence[Header]) -> None:
        await asyncio.sleep(ACKNOWLEDGED_S)  # of the virtual clock
        self.headers[origin.offset] = headers
        await super().publish(origin, key, value, headers)

    def request(self, *headers: Header, topic: str = "requests", value: bytes | None = None, ads: int = 3) -> None:
        """Sends a record that was written 4 ms ago."""
        document = {"request_id": f"r{len(self.tasks)}", "candidates": [{"ad_id": f"a{i}"} for i in range(ads)]}
        now = self.loop.time()
        record = Record(
            b"u1",
            orjson.dumps(document) if value is None else value,
            headers,
            Origin(topic, 0, len(self.tasks)),
            0,
            Deadline.after(now - WAITED_S, 500.0),
            now,
        )
        self.tasks.append(self.spawn(self.pipeline.answer(record), "record"))

    @property
    def spans(self) -> list[Span]:
        """All spans so far; second 0 of the clock is the epoch."""
        tree = SpanTree(0, self.recorder.new_id, "group", "scores", "dead", "grpc")
        return [span for finished in self.finished_traces for span in tree.spans(finished)]


def seconds_of(span: Span) -> float:
    """Its duration, rounded to a microsecond."""
    return round((span.end - span.start) / 1e9, 6)
