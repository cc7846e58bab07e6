"""The cost of a request over HTTP against one over Kafka: CPU and throughput.

The model server is simulated and fast, so the scorer is the bottleneck.
"""

import asyncio
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence

import aiohttp
import numpy as np
import psutil

from benchmarks.bench import UNHURRIED, Bench
from benchmarks.delivery import QUICK
from benchmarks.programs import Run
from benchmarks.report import Figure, write
from sandbox.host.ports import free_ports
from sandbox.processes.scorer import ScorerProcess
from sandbox.world.bid_requests import RequestFactory

CONNECTIONS = 16
_WARM_UP = 0.2


def run(bench: Bench) -> None:
    """Both ways in turns, with the same requests."""
    options, requests = bench.options, bench.backlog_size
    warm_up = round(_WARM_UP * requests)
    factory = RequestFactory(bench.world, candidates=options.candidates, seed=3, prefix="backlog")
    bodies = [factory.next().value for _ in range(requests)]
    runs: dict[str, list[Run]] = {"kafka": [], "http": []}
    times: list[float] = []
    with bench.simulated(QUICK) as server:
        source = bench.backlog(requests)
        for turn in range(options.rounds):
            over_kafka = bench.process_backlog(source, requests, [server.address], warm_up=warm_up)
            over_http, found = _over_http(bench, bodies, server.address, warm_up)
            times += found
            for name, one in (("kafka", over_kafka), ("http", over_http)):
                runs[name].append(one)
                bench.console.print(
                    f"round {turn + 1}, {name}: {one.requests_per_second:.0f} requests/s, {one.cpu_ms:.2f} ms of CPU "
                    "per request"
                )
    settings = {
        "candidates": options.candidates,
        "rounds": options.rounds,
        "requests": requests,
        "connections": CONNECTIONS,
        "simulated": {"fixed_ms": QUICK.fixed_ms, "per_row_us": QUICK.per_row_us, "workers": QUICK.workers},
        "overridden": dict(UNHURRIED),
    }
    write("http", figures_of(runs, times), settings, options.out)


def _over_http(bench: Bench, bodies: Sequence[bytes], address: str, warm_up: int) -> tuple[Run, list[float]]:
    """Sends each request as soon as a connection is free; also returns the seconds of each."""
    (port,) = free_ports(1)
    settings = {**UNHURRIED, "predictor.addresses": [address], "http.port": port}
    log = bench.work / "serve-http.log"
    with ScorerProcess(settings, log, command=("-m", "streamer", "serve-http")) as scorer:
        process = psutil.Process(scorer.pid)
        asyncio.run(_post_all(port, bodies[:warm_up]))
        used, start = sum(process.cpu_times()[:2]), time.perf_counter()
        times = asyncio.run(_post_all(port, bodies[warm_up:]))
        seconds, used = time.perf_counter() - start, sum(process.cpu_times()[:2]) - used
        resident = process.memory_info().rss
    return Run(len(times) / seconds, 1e3 * used / len(times), resident / 2**20, {}), times


async def _post_all(port: int, bodies: Sequence[bytes]) -> list[float]:
    left, times = iter(bodies), list[float]()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session, asyncio.TaskGroup() as tasks:
        for _ in range(CONNECTIONS):
            tasks.create_task(_post_each(session, left, times))
    return times


async def _post_each(session: aiohttp.ClientSession, left: Iterator[bytes], times: list[float]) -> None:
    for body in left:
        start = time.perf_counter()
        async with session.post("/v1/score", data=body) as reply:
            answer = await reply.read()
            assert reply.status == 200, answer[:300]
        times.append(time.perf_counter() - start)


def figures_of(runs: Mapping[str, list[Run]], times: Sequence[float]) -> list[Figure]:
    """Medians of the rounds; a ratio compares runs of the same round."""
    over_kafka, over_http = runs["kafka"], runs["http"]
    ratios = [b.cpu_ms / a.cpu_ms for a, b in zip(over_kafka, over_http, strict=True)]
    return [
        *(
            Figure(f"{name}_cpu_per_request", statistics.median(one.cpu_ms for one in found), "ms")
            for name, found in runs.items()
        ),
        Figure("cpu_of_http_over_kafka", statistics.median(ratios), "ratio", "<=", 1.2),
        *(
            Figure(f"{name}_rate", statistics.median(one.requests_per_second for one in found), "requests/s")
            for name, found in runs.items()
        ),
        Figure("http_p50", 1e3 * float(np.percentile(times, 50)), "ms"),
        Figure("http_p99", 1e3 * float(np.percentile(times, 99)), "ms"),
    ]
