"""The score cache: cost per request, hit ratio, capacity and CPU with and without it."""

import statistics
import time
from contextlib import ExitStack

import numpy as np
import psutil

from benchmarks.bench import UNHURRIED, Bench, Service
from benchmarks.bounds import bound_of
from benchmarks.figures import faults, hit_ratio
from benchmarks.hit_ratio import HitRatios, hit_ratios, zipf_trace
from benchmarks.report import Figure, write
from sandbox.processes.scorer import ScorerProcess
from sandbox.traffic.repeated_requests import Repeats
from sandbox.traffic.run import run_traffic
from sandbox.world.bid_requests import RequestFactory
from streamer.scoring.cache import ScoreCache
from streamer.settings.sections import CacheSettings
from streamer.types import ModelVersion

_VERSION = ModelVersion("ctr", 1)
_TURNS = 2_000
_SIZES_KIB = (64, 256, 1024, 2048, 4096)
_TRACE_ROWS, _TRACE_REQUESTS = 200_000, 9_000
_POOL = 400
_PATIENT = {"source.budget_ms": 60_000, "source.max_budget_ms": 60_000}
_SERVICE = Service(fixed_ms=2.0, per_row_us=2.0, workers=4)


def run(bench: Bench) -> None:
    """Measures in this process, on a trace, and through scorers with and without the cache."""
    options = bench.options
    cost = median_cost_ms(options.candidates)
    trace = zipf_trace(_TRACE_ROWS, _TRACE_REQUESTS, options.candidates)
    by_size = {
        kib: hit_ratios(ScoreCache(CacheSettings(max_bytes=kib * 2**10, ttl_s=1e6)), trace) for kib in _SIZES_KIB
    }
    figures = [
        Figure("lookup_reserve_fill", cost, "ms", "<=", 0.25),
        *figures_of(by_size),
        *_through_scorer(bench),
        *_capacities(bench),
    ]
    settings = {
        "model_server": bench.server.version,
        "candidates": options.candidates,
        "turns": _TURNS,
        "trace": {"rows": _TRACE_ROWS, "requests": _TRACE_REQUESTS, "law": "1/k"},
        "traffic": {
            "different_requests": _POOL,
            "law": "1/k",
            "rate": options.capacity,
            "seconds": options.seconds / 2,
        },
    }
    write("cache", figures, settings, options.out)


def median_cost_ms(candidates: int, turns: int = _TURNS) -> float:
    """Milliseconds of lookup, reservation and fill for one request with only unknown rows.

    The cache has its default size and is half full before each turn: an untimed fill with failed rows releases the
    entries of the turn.
    """
    cache = ScoreCache(CacheSettings())
    rng = np.random.default_rng(1)
    ctr, done = np.full(candidates, 0.1, dtype=np.float32), np.ones(candidates, dtype=np.bool_)
    rows = np.arange(candidates)
    for _ in range(cache.capacity // 2 // candidates):
        keys = rng.integers(0, 2**63, (candidates, 2), dtype=np.uint64)
        cache.fill(cache.reserve(_VERSION, keys, rows, 1, now=0.0, until=1.0), ctr, done, 0.0)
    spent = []
    for _ in range(turns):
        keys = rng.integers(0, 2**63, (candidates, 2), dtype=np.uint64)
        start = time.perf_counter()
        found = cache.lookup(_VERSION, keys, 1.0)
        places = cache.reserve(_VERSION, keys, np.flatnonzero(~found.known), 1, now=1.0, until=2.0)
        cache.fill(places, ctr, done, 1.0)
        spent.append(time.perf_counter() - start)
        cache.fill(cache.reserve(_VERSION, keys, rows, 1, now=1.0, until=2.0), ctr, ~done, 1.0)
    return 1e3 * statistics.median(spent)


def figures_of(by_size: dict[int, HitRatios]) -> list[Figure]:
    """Hit ratios by cache size in KiB, and the largest difference from the ideal, in points."""
    worst = max(100 * abs(found.ideal - found.cache) for found in by_size.values())
    figures = [Figure("hit_ratio_off_ideal", worst, "points", "<=", 1.0)]
    for kib, found in by_size.items():
        figures += [
            Figure(f"hit_ratio_{kib}_kib", found.cache, "ratio"),
            Figure(f"ideal_hit_ratio_{kib}_kib", found.ideal, "ratio"),
        ]
    return figures


def _through_scorer(bench: Bench) -> list[Figure]:
    """Two scorers, without and with cache, get the same traffic with repeated requests in turns.

    The model server is simulated: with a real one the cache saves the hit ratio of its work, and no other CPU time of
    the scorer.
    """
    options = bench.options
    cpu: dict[str, list[float]] = {"off": [], "on": []}
    hits: dict[str, list[float]] = {"off": [], "on": []}
    faulty = 0
    factory = RequestFactory(bench.world, candidates=options.candidates, seed=11)
    with bench.simulated(_SERVICE) as server, ExitStack() as stack:
        topics = {name: bench.topics(f"cache-{name}") for name in cpu}
        processes = {}
        for name, to in topics.items():
            settings = bench.settings(to, [server.address], {**_PATIENT, "cache.enabled": name == "on"})
            scorer = stack.enter_context(ScorerProcess(settings, bench.work / f"cache-{name}.log"))
            processes[name] = psutil.Process(scorer.pid)
        for turn in range(options.rounds + 1):
            for name, process in processes.items():
                used = sum(process.cpu_times()[:2])
                repeats = Repeats(factory, _POOL, exponent=1.0, seed=turn, prefix=f"turn{turn}")
                report = run_traffic(
                    bench.bootstrap, topics[name], repeats, rate=options.capacity, seconds=options.seconds / 2
                )
                used = sum(process.cpu_times()[:2]) - used
                faulty += faults(report)
                if turn:  # the first round is a warm-up
                    cpu[name].append(1e3 * used / max(1, report.answered))
                    hits[name].append(hit_ratio(report))
    ratio = statistics.median(on / off for on, off in zip(cpu["on"], cpu["off"], strict=True))
    return [
        *(Figure(f"scorer_cpu_per_request_cache_{name}", statistics.median(ms), "ms") for name, ms in cpu.items()),
        *(Figure(f"scorer_hit_ratio_cache_{name}", statistics.median(of), "ratio") for name, of in hits.items()),
        Figure("scorer_cpu_on_over_off", ratio, "ratio"),
        Figure("faults", faulty, "requests", "<=", 0),
    ]


def _capacities(bench: Bench) -> list[Figure]:
    """Requests per second of a saturated scorer with and without the cache, in turns.

    `zipf` repeats requests of a pool; `distinct` repeats none, so that the cache has no hit.
    """
    size, factory = bench.backlog_size, RequestFactory(bench.world, candidates=bench.options.candidates, seed=12)
    bench.fill_new("cache-zipf", Repeats(factory, _POOL, exponent=1.0, seed=12, prefix="zipf"), size)
    sources = {"zipf": "cache-zipf", "distinct": bench.backlog(size)}
    rates: dict[tuple[str, str], list[float]] = {(name, how): [] for name in sources for how in ("off", "on")}
    for turn in range(bench.options.rounds):
        for name, how in rates if turn % 2 == 0 else reversed(rates):
            settings = {**UNHURRIED, "cache.enabled": how == "on"}
            # In the warm-up the scorer learns whether the cache has hits.
            found = bench.process_backlog(sources[name], size, [bench.server.address], settings, warm_up=size // 5)
            rates[name, how].append(found.requests_per_second)
    figures = [
        Figure(f"{name}_rate_cache_{how}", statistics.median(of), "requests/s") for (name, how), of in rates.items()
    ]
    for name in sources:
        pairs = zip(rates[name, "on"], rates[name, "off"], strict=True)
        ratio = statistics.median(on / off for on, off in pairs)
        figures.append(Figure(f"{name}_on_over_off", ratio, "ratio", *bound_of("cache", f"{name}_on_over_off")))
    return figures
