"""The end of `make test`: CPU per request of the scorer over the floor's, in this process.

No broker, no model server, no bound: a change that doubles the ratio is visible, and `make bench` measures the rest.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Coroutine, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from rich.console import Console

from benchmarks.bench import SPEC
from benchmarks.floor import CHUNK, CONCURRENT_CALLS
from benchmarks.floor_encoders import FloorEncoder, answers, floor_encoder
from sandbox.world.bid_requests import RequestFactory
from sandbox.world.world import World
from streamer.assembly import Assembly
from streamer.deadline import Deadline
from streamer.features import FeatureSpec
from streamer.metrics import Metrics
from streamer.pipeline import Pipeline
from streamer.serving.predictor import Predictor
from streamer.serving.protos import predict_pb2
from streamer.serving.transport import CallHeaders, Rpc
from streamer.settings import Settings
from streamer.settings.sections import PredictorSettings
from streamer.testing.model_servers import Loaded, VirtualServers
from streamer.types import F32, BatchInputs, DeadLetter, Header, ModelVersion, Origin, Record

_REQUESTS, _ROUNDS = 96, 4
_BUDGET_MS = 60_000.0


def reply_of(rows: int) -> bytes:
    """A reply with scores of so many rows."""
    reply = predict_pb2.PredictResponse()
    output = reply.outputs["ctr"]
    output.dtype = 1
    output.tensor_shape.dim.add().size = rows
    output.tensor_content = np.full(rows, 0.1, dtype=np.float32).tobytes()
    serialised: bytes = reply.SerializeToString()
    return serialised


class EchoChannel:
    """Serialises each call, and parses a reply with as many scores."""

    def __init__(self, address: str) -> None:
        self.address = address

    async def call(self, rpc: Rpc, request: Any, seconds: float, headers: CallHeaders = ()) -> Any:
        """A Predict call."""
        assert rpc == "Predict"
        request.SerializeToString()
        rows = len(request.arrays["row_to_request"])
        await asyncio.sleep(0)
        return predict_pb2.PredictResponse.FromString(reply_of(rows))

    async def close(self, grace_s: float | None = None) -> None:
        """Does nothing."""


class Servers(VirtualServers):
    """Fake servers whose scores come through the scorer's own client and messages."""

    def __init__(self, spec: FeatureSpec) -> None:
        super().__init__([{1: Loaded(spec)}])
        settings = PredictorSettings(addresses=("in-process:8500",))
        self._predictor = Predictor(settings, clock=time.monotonic, connect=lambda address, _: EchoChannel(address))

    async def score(self, version: ModelVersion, inputs: BatchInputs, seconds: float) -> F32:
        """Scores n rows, float32 [n]."""
        return await self._predictor.score(version, inputs, seconds)


class Ends:
    """The ends of the pipeline: they count the answers."""

    def __init__(self) -> None:
        self.answered_count = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def answered(self) -> None:
        """Does nothing."""

    def acknowledged(self, origin: Origin) -> None:
        """Does nothing."""

    async def publish(self, origin: Origin, key: bytes | None, value: bytes, headers: Sequence[Header]) -> None:
        """Counts an answer."""
        self.answered_count += b'"status":"ok"' in value

    async def dead_letter(self, letter: DeadLetter) -> None:
        """Fails."""
        raise AssertionError(letter.reason)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Starts a task."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def started(spec: FeatureSpec, ends: Ends) -> Pipeline:
    """A pipeline that serves version 1, between `ends`, with the score cache off."""
    settings = Settings.model_validate({"cache": {"enabled": False}, "source": {"max_budget_ms": _BUDGET_MS}})
    assembly = Assembly(settings, Metrics(), structlog.get_logger(), time.monotonic, ends.spawn)
    servers = Servers(spec)
    models = assembly.models(servers, None)
    scorer = assembly.scorer(
        ends, servers, ends, models=models, cache=None, publish_shadow=_publish, publish_rows=_publish
    )
    await models.refresh()
    return scorer.pipeline


async def _publish(*_: object) -> None:
    pass


def chunks(values: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    """The values in lists of `size`."""
    rest = iter(values)
    while chunk := list(islice(rest, size)):
        yield chunk


async def scorer_ms(pipeline: Pipeline, values: Sequence[bytes]) -> float:
    """CPU milliseconds per request of the scorer."""
    start = time.process_time()
    for chunk in chunks(values, CHUNK * CONCURRENT_CALLS):
        now = time.monotonic()
        records = [
            Record(b"user", value, (), Origin("requests", 0, i), 0, Deadline.after(now, _BUDGET_MS), now)
            for i, value in enumerate(chunk)
        ]
        await asyncio.gather(*map(pipeline.answer, records))
    return 1e3 * (time.process_time() - start) / len(values)


def floor_ms(encoder: FloorEncoder, values: Sequence[bytes]) -> float:
    """CPU milliseconds per request of the floor."""
    start = time.process_time()
    for chunk in chunks(values, CHUNK):
        encoded = encoder.encode([encoder.decode(value) for value in chunk])
        encoded.message.SerializeToString()
        rows = sum(map(len, encoded.ad_ids))
        answers(encoded, predict_pb2.PredictResponse.FromString(reply_of(rows)), 1.0)
    return 1e3 * (time.process_time() - start) / len(values)


async def measure(candidates: int = 300, requests: int = _REQUESTS, rounds: int = _ROUNDS) -> tuple[float, float]:
    """CPU milliseconds per request of scorer and floor, the best of interleaved rounds."""
    spec = FeatureSpec.from_yaml(Path(SPEC))
    factory = RequestFactory(World(seed=7), candidates=candidates, seed=3)
    values = [factory.next().value for _ in range(requests)]
    ends, floor = Ends(), floor_encoder(spec)
    pipeline = await started(spec, ends)
    found = [(await scorer_ms(pipeline, values), floor_ms(floor, values)) for _ in range(rounds + 1)]
    assert ends.answered_count == len(values) * len(found), "a request was not scored"
    scorer, of_floor = (min(one[i] for one in found[1:]) for i in (0, 1))
    return scorer, of_floor


def main() -> int:
    """Prints the ratio; always 0."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    scorer, floor = asyncio.run(measure())
    text = f"CPU per request of 300 candidates, in process: scorer {scorer:.2f} ms, floor {floor:.2f} ms"
    Console(highlight=False).print(f"{text}, scorer over floor {scorer / floor:.2f} (no bound; make bench has bounds)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
