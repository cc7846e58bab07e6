"""The CPU time that traces add to a request, in this process, without a broker.

Each turn includes what the thread of the export takes for its spans. The collector is another process.
"""

import asyncio
import logging
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import structlog

from benchmarks.bench import SPEC, Bench
from benchmarks.guard import Ends, scorer_ms, started
from benchmarks.report import Figure, write
from sandbox.host.parent import parent_bound_command
from sandbox.host.ports import accepts, free_ports
from sandbox.processes.child import Child
from sandbox.world.bid_requests import RequestFactory
from streamer.deadline import Deadline
from streamer.features import FeatureSpec
from streamer.metrics import Metrics
from streamer.pipeline import Pipeline
from streamer.settings import Settings
from streamer.tracing.export_thread import traced
from streamer.tracing.otlp import OtlpExporter
from streamer.tracing.recording import Finished, Recorder
from streamer.tracing.span_tree import Span
from streamer.tracing.tracer import Tracer

SHARES: Mapping[str, float | None] = {"off": None, "one_percent": 0.01, "all": 1.0}
"""The sampled share of each kind of turn; None: traces are off."""
_REQUESTS = 300
_ROUNDS = 40
_POLL_S = 0.1
_EXPORT_S = 15.0
_STOP_MS = 60_000.0


def run(bench: Bench) -> None:
    """All kinds in turns, in the opposite order in every other round."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    factory = RequestFactory(bench.world, candidates=bench.options.candidates, seed=3)
    values = [factory.next().value for _ in range(_REQUESTS)]
    with _collector(bench.work / "collector.log") as endpoint:
        found, lost = asyncio.run(_measure(values, endpoint))
    settings = {"candidates": bench.options.candidates, "requests": _REQUESTS, "rounds": _ROUNDS}
    write("tracing", figures_of(found, lost), settings, bench.options.out)


class _Evenly(Random):
    """Samples each n-th request, so that all turns of a kind have as many."""

    def __init__(self, share: float) -> None:
        super().__init__(1)
        self._every = round(1 / share)
        self._drawn = 0

    def random(self) -> float:
        """0 for each n-th request, else almost 1."""
        self._drawn += 1
        return 1.0 - 1e-9 if self._drawn % self._every else 0.0


class _Counted:
    """An exporter that counts its spans: to read the metric takes more CPU time than an export."""

    def __init__(self, exporter: OtlpExporter) -> None:
        self._exporter = exporter
        self.accepted = self.lost = 0

    def export(self, spans: Sequence[Span]) -> bool:
        """Sends spans."""
        is_accepted = self._exporter.export(spans)
        self.accepted += len(spans) * is_accepted
        self.lost += len(spans) * (not is_accepted)
        return is_accepted

    def close(self) -> None:
        """Ends the exports."""
        self._exporter.close()


class _Traced:
    """A pipeline with traces of its own; their export goes on from turn to turn."""

    def __init__(self, pipeline: Pipeline, share: float, endpoint: str) -> None:
        self.exporter = _Counted(OtlpExporter(endpoint, "bench"))
        tracing = traced(Settings(), self.exporter, Metrics().spans, structlog.get_logger(), time.monotonic)
        self.export, self._recorded = tracing.export, 0
        self.export.start()
        self.pipeline = replace(
            pipeline, tracer=Tracer(share, Recorder(time.monotonic, self._finished, _Evenly(share)))
        )

    @property
    def missing(self) -> int:
        """Recorded spans that are not exported."""
        return self._recorded - self.exporter.accepted

    async def exported(self) -> None:
        """Waits until every recorded span is exported or lost, for 15 s at most."""
        until = time.monotonic() + _EXPORT_S
        while self.missing > self.exporter.lost and time.monotonic() < until:  # noqa: ASYNC110  counted in a thread
            await asyncio.sleep(_POLL_S)

    def _finished(self, finished: Finished) -> None:
        self._recorded += finished.spans
        self.export.add(finished)


async def _measure(values: Sequence[bytes], endpoint: str) -> tuple[dict[str, list[float]], float]:
    """CPU milliseconds per request by kind and round, and the number of spans that were lost."""
    pipeline = await started(FeatureSpec.from_yaml(Path(SPEC)), Ends())
    kinds = {kind: None if share is None else _Traced(pipeline, share, endpoint) for kind, share in SHARES.items()}
    found = {kind: list[float]() for kind in SHARES}
    waited_s = 0.0
    for turn in range(_ROUNDS + 1):
        for kind in SHARES if turn % 2 else reversed(list(SHARES)):
            start, traces = time.process_time(), kinds[kind]
            await scorer_ms(pipeline if traces is None else traces.pipeline, values)
            began = time.monotonic()
            if traces is not None:
                await traces.exported()
                waited_s = time.monotonic() - began
            else:  # threads of other scenarios use CPU meanwhile
                await asyncio.sleep(waited_s)
            if turn:  # the first round warms up
                found[kind].append(1e3 * (time.process_time() - start) / len(values))
    running = [traces for traces in kinds.values() if traces is not None]
    for traces in running:
        await traces.export.stop(Deadline.after(time.monotonic(), _STOP_MS))
    return found, sum(traces.missing for traces in running)


def figures_of(found: Mapping[str, Sequence[float]], lost: float) -> list[Figure]:
    """Medians; a ratio compares turns of one round, between which the machine changes least."""
    off = found["off"]
    one_percent = statistics.median(a / b for a, b in zip(found["one_percent"], off, strict=True))
    sampled = statistics.median(a - b for a, b in zip(found["all"], off, strict=True))
    return [
        *(Figure(f"{kind}_cpu_per_request", statistics.median(ms), "ms") for kind, ms in found.items()),
        Figure("one_percent_over_off", one_percent, "ratio", "<=", 1.03),
        Figure("cpu_per_sampled_request", sampled, "ms"),
        Figure("lost_spans", lost, "", "<=", 0),
    ]


@contextmanager
def _collector(log: Path) -> Iterator[str]:
    """The address of a collector in another process."""
    (port,) = free_ports(1)
    command = parent_bound_command([sys.executable, "-m", "sandbox.collector", str(port)])
    child = Child("collector", command, log, environment=os.environ, error=RuntimeError)
    child.start(lambda: None if accepts(port) else "not listening", 60.0)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        child.stop(10.0)
