"""Measures the costs that the simulation uses, on a real system, process by process."""

import asyncio
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import psutil
from confluent_kafka import Consumer, TopicPartition
from scipy.optimize import nnls

from benchmarks.bench import MODEL, UNHURRIED, Bench
from benchmarks.delivery import PARTITIONS, QUICK
from benchmarks.figures import median_run, percentile
from benchmarks.programs import cpu_s, follow, scorer
from benchmarks.report import processor
from benchmarks.simulation.costs import Costs, OtherCosts, ScorerCosts, ServerCosts
from sandbox.broker.topics import Topics
from sandbox.processes.model_server import ONE_THREAD_PER_CALL, ModelServerProcess
from sandbox.processes.scorer import ScorerProcess
from sandbox.traffic.run import run_traffic
from sandbox.world.bid_requests import RequestFactory
from streamer.commands.live_model import connected, served
from streamer.serving.messages import score_request
from streamer.settings import Settings
from streamer.settings.sections import SourceSettings
from streamer.types import BatchInputs, BidRequest

# Candidates of a request, and rows of a call. The first two together separate the cost of a request from that of its
# candidates.
_CANDIDATES = (60, 300)
_ROWS = (100, 300, 1200)
RATE = 120.0
"""Requests per second of the calm traffic, in which each request is fetched and called on its own."""
_WARM_UP = 0.25
_WARM_UP_RATE = 200.0
_QUANTILES, _HIGHEST = 21, 0.995
_TIMEOUT_S, _POLL_S = 60.0, 0.05


@dataclass(frozen=True, slots=True)
class Point:
    """CPU per request, in ms, of the processes of a run; `batch`: requests of a call, mean."""

    candidates: int
    batch: float
    scorer_ms: float
    broker_ms: float
    own_ms: float


@dataclass(frozen=True, slots=True)
class Calm:
    """A run with open-loop traffic.

    Attributes:
        idle: shares of a core that scorer, broker and this process use without requests; not part of `point`.
        scoring_ms, outside_ms: time of a request in the scorer and outside of it, medians.
        start_s: CPU seconds of the start of a process; resident_mb: memory of the largest process.
    """

    point: Point
    idle: tuple[float, float, float]
    scoring_ms: float
    outside_ms: float
    start_s: float
    resident_mb: float


def calibrate(bench: Bench) -> Costs:
    """Measures all costs, about a minute per round.

    Of the rounds the one with the median CPU counts, for each kind of run.
    """
    turns = range(bench.options.rounds)
    bench.console.print("measuring the costs ...")
    servers = [asyncio.run(_server_costs(bench, turn)) for turn in turns]
    with bench.simulated(QUICK) as quick:
        bidder_ms = statistics.median(_bidder_ms(bench, turn) for turn in turns)
        runs = [[_calm(bench, quick.address, candidates, turn) for candidates in _CANDIDATES] for turn in turns]
        few, found = (median_run(same, lambda run: run.point.scorer_ms) for same in zip(*runs, strict=True))
        points = [[_busy(bench, quick.address, candidates, turn) for candidates in _CANDIDATES] for turn in turns]
        busy = [median_run(same, lambda point: point.scorer_ms) for same in zip(*points, strict=True)]
        expired_ms = statistics.median(_expired_ms(bench, quick.address, turn) for turn in turns)
    calm = [few.point, found.point]
    server = median_run(servers, lambda costs: costs.call_ms + _CANDIDATES[-1] * costs.row_us / 1e3)
    for point in (*calm, *busy):
        bench.console.print(
            f"{point.candidates} candidates, {point.batch:.2f} requests per call: scorer {point.scorer_ms:.2f}, broker "
            f"{point.broker_ms:.2f}, bidder and ranker {point.own_ms:.2f} ms of CPU per request"
        )
    # Without requests of others, the rest of the time of scoring is that of the call between the two programs.
    quick_ms = QUICK.fixed_ms + _CANDIDATES[-1] * QUICK.per_row_us / 1e3
    round_trip_ms = max(0.05, found.scoring_ms - found.point.scorer_ms - quick_ms)
    chunk_ms, call_ms, request_ms, candidate_us = fitted(calm, busy)
    ranker_ms = max(0.0, calm[-1].own_ms - bidder_ms)
    waits_ms = max(0.1, found.outside_ms - calm[-1].broker_ms - ranker_ms)
    rows, columns = (_request_bytes(bench, layout) for layout in ("rows", "columns"))
    return Costs(
        machine=processor(),
        server_program=bench.server.version,
        candidates=_CANDIDATES[-1],
        scorer=ScorerCosts(
            chunk_ms, call_ms, request_ms, candidate_us, expired_ms, found.idle[0], found.start_s, found.resident_mb
        ),
        server=replace(server, round_trip_ms=round_trip_ms),
        other=OtherCosts(
            bidder_ms=bidder_ms,
            broker_ms=calm[-1].broker_ms,
            ranker_ms=ranker_ms,
            backlog_broker_ms=busy[-1].broker_ms,
            backlog_reader_ms=busy[-1].own_ms,
            broker_idle=found.idle[1],
            in_ms=waits_ms / 2,
            out_ms=waits_ms / 2,
            rows_bytes=rows,
            columns_bytes=columns,
            answer_bytes=_answer_bytes(bench),
        ),
    )


def fitted(calm: Sequence[Point], busy: Sequence[Point]) -> tuple[float, float, float, float]:
    """ms per chunk, call and request, µs per candidate: least squares, none below 0.

    Each call of calm traffic has a chunk of its own; the chunks of a backlog are full.
    """
    points = [*calm, *busy]
    full = SourceSettings().max_poll_records
    chunks = [*(point.batch for point in calm), *(full for _ in busy)]
    rows = [[1 / n, 1 / p.batch, 1.0, p.candidates / 1e3] for n, p in zip(chunks, points, strict=True)]
    # The same share of each point counts.
    design = np.array(rows) / np.array([[point.scorer_ms] for point in points])
    chunk_ms, call_ms, request_ms, candidate_us = nnls(design, np.ones(len(points)))[0].tolist()
    return chunk_ms, call_ms, request_ms, candidate_us


def _factory(bench: Bench, candidates: int, prefix: str) -> RequestFactory:
    return RequestFactory(bench.world, candidates=candidates, seed=len(prefix), prefix=prefix)


def _bidder_ms(bench: Bench, turn: int) -> float:
    """CPU of building and sending a request."""
    requests = round(20 * bench.options.seconds)
    factory = _factory(bench, _CANDIDATES[-1], "bidder")
    bench.fill_new(f"bidder-warm-up-{turn}", factory, requests)
    start = time.process_time()
    bench.fill_new(f"bidder-{turn}", factory, requests)
    return (time.process_time() - start) * 1e3 / requests


def _calm(bench: Bench, address: str, candidates: int, turn: int) -> Calm:
    """Open-loop traffic, after a warm-up and some idle seconds."""
    topics, seconds = bench.topics(f"calm-{candidates}-{turn}", PARTITIONS), bench.options.seconds
    log = bench.work / f"calm-{candidates}-{turn}.log"
    with ScorerProcess(bench.settings(topics, [address], UNHURRIED), log) as running:
        main = psutil.Process(running.pid)
        processes = [main, *main.children(recursive=True)]
        start_s = statistics.median(sum(process.cpu_times()[:2]) for process in processes)
        warm = _factory(bench, candidates, "warm")
        run_traffic(bench.bootstrap, topics, warm, rate=_WARM_UP_RATE, seconds=seconds / 2)
        held = _used(bench, main)
        time.sleep(seconds / 4)
        idle = tuple(4 * (now - then) / seconds for now, then in zip(_used(bench, main), held, strict=True))
        held, calls, rows, start = _used(bench, main), *_batches(running), time.monotonic()
        report = run_traffic(bench.bootstrap, topics, _factory(bench, candidates, "calm"), rate=RATE, seconds=seconds)
        passed = time.monotonic() - start
        used = [
            1e3 * max(0.0, now - then - passed * share) / report.answered
            for now, then, share in zip(_used(bench, main), held, idle, strict=True)
        ]
        after_calls, after_rows = _batches(running)
        resident_mb = max(process.memory_info().rss for process in processes) / 2**20
    batch = (after_rows - rows) / max(1.0, after_calls - calls) / candidates
    scoring_ms = percentile(report.times.stage_ms["total"], 50)
    outside_ms = percentile(report.times.latency_ms, 50) - scoring_ms
    scorer_share, broker_share, own_share = idle
    shares = scorer_share, broker_share, own_share
    return Calm(Point(candidates, batch, *used), shares, scoring_ms, outside_ms, start_s, resident_mb)


def _busy(bench: Bench, address: str, candidates: int, turn: int) -> Point:
    """A backlog, which the scorer processes as fast as it can."""
    requests = round(60 * bench.options.seconds)
    name = f"busy-{candidates}-{turn}"
    topics = Topics(f"{name}-in", f"{name}-out", f"{name}-dead")
    bench.fill_new(topics.requests, _factory(bench, candidates, name), requests, PARTITIONS)
    for topic in topics[1:]:
        bench.broker.create_topic(topic, 1)
    assert bench.broker.pid is not None
    broker, own = psutil.Process(bench.broker.pid), psutil.Process()
    held = cpu_s(broker), cpu_s(own, children=False)
    with scorer(bench.settings(topics, [address], UNHURRIED), bench.work / f"{name}.log") as running:
        run = follow(running.pid, bench.bootstrap, topics.scores, requests, warm_up=round(_WARM_UP * requests))
        calls, rows = _batches(running)
    broker_ms, own_ms = 1e3 * (cpu_s(broker) - held[0]), 1e3 * (cpu_s(own, children=False) - held[1])
    return Point(candidates, rows / max(1.0, calls) / candidates, run.cpu_ms, broker_ms / requests, own_ms / requests)


def _expired_ms(bench: Bench, address: str, turn: int) -> float:
    """CPU of the answer to a request that expired before it was read."""
    requests = round(60 * bench.options.seconds)
    factory = RequestFactory(bench.world, candidates=_CANDIDATES[-1], seed=7, deadline_ms=1.0)
    bench.fill_new(f"expired-{turn}", factory, requests)
    run = bench.process_backlog(f"expired-{turn}", requests, [address], {}, status="expired", warm_up=requests // 2)
    return run.cpu_ms


def _used(bench: Bench, scorer_process: psutil.Process) -> tuple[float, float, float]:
    """CPU seconds of the scorer, the broker and this process so far."""
    assert bench.broker.pid is not None
    broker = psutil.Process(bench.broker.pid)
    return cpu_s(scorer_process), cpu_s(broker), cpu_s(psutil.Process(), children=False)


def _batches(running: ScorerProcess) -> tuple[float, float]:
    """The calls of all workers so far, and their rows."""
    count, total = (running.metric(f"streamer_batching_rows_{name}") for name in ("count", "sum"))
    return count, total


def _request_bytes(bench: Bench, layout: str) -> float:
    columns = layout == "columns"
    factory = RequestFactory(bench.world, candidates=_CANDIDATES[-1], layout="columns" if columns else "rows")
    return statistics.mean(len(factory.next().value) for _ in range(50))


def _answer_bytes(bench: Bench) -> float:
    """Mean bytes of the answers of a busy run."""
    topic = f"busy-{_CANDIDATES[-1]}-0-out"
    consumer = Consumer({"bootstrap.servers": bench.bootstrap, "group.id": "sizes", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        return statistics.mean(len(message.value()) for message in consumer.consume(50, timeout=_TIMEOUT_S))
    finally:
        consumer.close()


async def _server_costs(bench: Bench, turn: int) -> ServerCosts:
    """Calls of several sizes, one at a time; then the loading of a version.

    `round_trip_ms` is not set.
    """
    base = (bench.work / f"calibrated-{turn}" / MODEL).absolute()
    shutil.copytree(bench.model / "1", base / "1")
    arriving = shutil.copytree(bench.model / "1", base.with_suffix(".arriving"))
    flags = {**ONE_THREAD_PER_CALL, "file_system_poll_wait_seconds": 1, "num_load_threads": 1}
    with ModelServerProcess(base, MODEL, flags=flags, log_path=bench.work / "calibrated.log") as server:
        process = psutil.Process(server.pid)
        settings = Settings.model_validate({"predictor": {"addresses": [server.address], "models": [MODEL]}})
        walls: dict[int, list[float]] = {}
        cpu_ms: dict[int, float] = {}
        async with connected(settings) as predictor:
            serving, _ = await served(predictor.control, settings, MODEL)
            sizes: list[float] = []
            for rows in _ROWS:
                factory = _factory(bench, rows, f"rows-{rows}")
                decoded = [serving.codec.decode(factory.next().value, ()) for _ in range(16)]
                encoded = [serving.encoder.encode(request) for request in decoded if isinstance(request, BidRequest)]
                inputs = [BatchInputs.whole(request) for request in encoded]
                for one in inputs:
                    await predictor.score(serving.version, one, _TIMEOUT_S)
                used, walls[rows] = cpu_s(process), []
                end = time.monotonic() + bench.options.seconds / 4
                while time.monotonic() < end:
                    start = time.perf_counter()
                    await predictor.score(serving.version, inputs[len(walls[rows]) % len(inputs)], _TIMEOUT_S)
                    walls[rows].append((time.perf_counter() - start) * 1e3)
                cpu_ms[rows] = 1e3 * (cpu_s(process) - used) / len(walls[rows])
                bench.console.print(
                    f"{rows} rows: {statistics.median(walls[rows]):.2f} ms, CPU of the server {cpu_ms[rows]:.2f} ms"
                )
                if rows == _CANDIDATES[-1]:
                    sizes = [len(score_request(serving.version, one)[0].SerializeToString()) for one in inputs]
            request_bytes = statistics.mean(sizes)
            resident_mb = process.memory_info().rss / 2**20
            used = cpu_s(process)
            arriving.rename(base / "2")
            while 2 not in (await predictor.control.available(MODEL)).somewhere:  # noqa: ASYNC110 - another process
                await asyncio.sleep(_POLL_S)
            load_s = cpu_s(process) - used
    row_us, call_ms = np.polyfit(list(_ROWS), [cpu_ms[rows] for rows in _ROWS], 1, w=[1 / cpu_ms[r] for r in _ROWS])
    middle = _CANDIDATES[-1]
    median_ms = statistics.median(walls[middle])
    quantiles = np.quantile(walls[middle], np.linspace(0.0, _HIGHEST, _QUANTILES)) / median_ms
    return ServerCosts(
        call_ms=max(0.0, float(call_ms)),
        row_us=float(row_us) * 1e3,
        round_trip_ms=0.0,
        spread=quantiles.tolist(),
        load_s=load_s,
        resident_mb=resident_mb,
        request_bytes=request_bytes,
    )
