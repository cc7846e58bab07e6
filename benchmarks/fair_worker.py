"""One worker without Kafka: requests through the scorer's dispatcher and predictor.

`python -m benchmarks.fair_worker --address HOST:PORT --rate 100 --seconds 10` prints the outcome as JSON.
"""

import argparse
import asyncio
import json
import random
import time
from collections.abc import Coroutine
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import uvloop

from benchmarks.fixed_limit import replicas_of
from benchmarks.smallest_request import smallest_request
from streamer.deadline import Deadline
from streamer.metrics import Metrics
from streamer.scoring.batching import Ticket
from streamer.scoring.dispatcher import Dispatcher
from streamer.serving.predictor import Predictor
from streamer.settings.sections import BatchingSettings, PredictorSettings
from streamer.types import F32, BatchInputs, EncodedRequest, ModelVersion

VERSION = ModelVersion("ctr", 1)
ROWS = 300
"""Candidates of a request, and rows of a call: each request is a call of its own."""


@dataclass(slots=True)
class Outcome:
    """The outcome of a worker's requests.

    Attributes:
        scored: when requests arrived that were scored in time, monotonic seconds.
        rejected: requests without scores because the server was full until their deadline.
    """

    scored: list[float] = field(default_factory=list)
    rejected: int = 0

    def counted(self, start: float, end: float) -> "Counted":
        """The outcome of the requests from `start` to `end`; `rejected` is of all."""
        return Counted(sum(start <= at < end for at in self.scored) / (end - start), self.rejected)


@dataclass(frozen=True, slots=True)
class Counted:
    """Requests scored in time, per second; `rejected` as in `Outcome`."""

    rate: float
    rejected: int


class Worker:
    """Scores `rate` requests per second at random times, each in one call, within `budget_s`."""

    def __init__(
        self,
        predictor: Predictor,
        rate: float,
        budget_s: float,
        seed: int,
    ) -> None:
        self.outcome = Outcome()
        self._loop = asyncio.get_running_loop()
        settings = BatchingSettings(max_batch_rows=ROWS)
        self._dispatcher = Dispatcher(
            settings, self._predict, self._spawn, self._loop.time, Metrics(), concurrency=predictor
        )
        self._predictor, self._rate, self._budget_s, self._random = predictor, rate, budget_s, random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, start: float, until: float) -> Outcome:
        """Sends requests between these times of the loop, and waits for their answers."""
        await asyncio.sleep(max(0.0, start - self._loop.time()))
        encoded = smallest_request(ROWS)
        while self._loop.time() < until:
            self._spawn(self._request(encoded), "request")
            await asyncio.sleep(self._random.expovariate(self._rate))
        while self._tasks:
            await asyncio.gather(*self._tasks)
        return self.outcome

    async def _request(self, encoded: EncodedRequest) -> None:
        start = self._loop.time()
        deadline = Deadline.after(start, self._budget_s * 1e3)
        calls = self._dispatcher.concurrency.concurrency_limit()
        if self._dispatcher.queue.would_miss_deadline(VERSION, deadline, start, calls=calls):
            return
        found = await self._dispatcher.score(Ticket(VERSION, encoded, np.arange(ROWS), deadline, start))
        if found.done.all():
            self.outcome.scored.append(start)
            return
        self.outcome.rejected += "RESOURCE_EXHAUSTED" in (found.reason or "")

    async def _predict(self, version: ModelVersion, inputs: BatchInputs, deadline: Deadline) -> F32:
        return await self._predictor.score(version, inputs, deadline.remaining(self._loop.time()))

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _main(given: argparse.Namespace) -> Counted:
    settings = PredictorSettings(addresses=(given.address,))
    predictor = Predictor(settings, replicas=replicas_of(settings, given.fixed))
    start, seconds = time.monotonic() if given.start is None else given.start, given.seconds
    try:
        outcome = await Worker(predictor, given.rate, given.budget_ms / 1e3, given.seed).run(start, start + seconds)
        return outcome.counted(start + seconds / 4, start + seconds)
    finally:
        await predictor.close()


def main() -> None:
    """Sends requests from `--start` on; the first quarter of the time does not count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", required=True)
    parser.add_argument("--rate", type=float, required=True, help="requests per second")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--budget-ms", type=float, default=500.0)
    parser.add_argument("--start", type=float, default=None, help="reading of the monotonic clock; default: now")
    parser.add_argument("--fixed", type=int, default=None, help="fixed limit of concurrent calls; default: adaptive")
    parser.add_argument("--seed", type=int, default=1)
    print(json.dumps(asdict(uvloop.run(_main(parser.parse_args())))))


if __name__ == "__main__":
    main()
