"""More requests than can be scored in time: goodput, and the rate of expired answers."""

from benchmarks.bench import Bench, Options, Service
from benchmarks.figures import Load, faults, percentile, under_load
from benchmarks.report import Figure, write
from sandbox.host.priority import real_time_priority
from sandbox.processes.model_server import ModelServerProcess
from sandbox.processes.scorer import ScorerProcess
from sandbox.traffic.repeated_requests import Repeats
from sandbox.traffic.run import run_traffic
from sandbox.world.bid_requests import RequestFactory

LOADS = (25, 50, 100, 150, 200, 300)
"""Offered load, in percent of the capacity."""
_POOL = 256
_WORKERS = 2
_EXPIRED_A_SECOND = 200


def run(bench: Bench) -> None:
    """The same loads with a simulated model server and with the real one; then expired records."""
    options = bench.options
    service = Service.of_capacity(options.capacity, options.candidates, _WORKERS)
    with bench.simulated(service) as server:
        figures = _loads(bench, "simulated", server, options.capacity, bound=0.85)
        figures += _discards(bench, server.address)
    capacity = _capacity(bench)
    figures += _loads(bench, "real", bench.server, capacity, bound=0.6)
    settings = {
        "model_server": bench.server.version,
        "candidates": options.candidates,
        "seconds": options.seconds,
        "budget_ms": options.budget_ms,
        "simulated_capacity": options.capacity,
        "real_capacity": round(capacity, 1),
        "simulated_fixed_ms": round(service.fixed_ms, 3),
        "simulated_per_row_us": round(service.per_row_us, 3),
        "simulated_workers": service.workers,
        "scheduling": "real-time priority for scorer and model server, if the system permits it",
        "requests": "candidates in columns, id and deadline in headers, too",
        "overridden": _overridden(bench),
    }
    write("overload", figures, settings, options.out)


def figures_of(server: str, loads: dict[int, Load], bound: float) -> list[Figure]:
    """The figures of one kind of server; `loads` by load in percent."""
    ratio = loads[300].goodput / loads[100].goodput if loads[100].goodput else float("nan")
    found = [Figure(f"{server}_goodput_300_over_100", ratio, "ratio", ">=", bound)]
    for load, seen in loads.items():
        found += [
            Figure(f"{server}_offered_{load}", seen.offered, "requests/s"),
            Figure(f"{server}_goodput_{load}", seen.goodput, "requests/s"),
            Figure(f"{server}_latency_p50_{load}", seen.p50, "ms"),
            Figure(f"{server}_latency_p99_{load}", seen.p99, "ms"),
            Figure(f"{server}_batch_rows_{load}", seen.batch_rows, "rows"),
        ]
    return found


def _loads(bench: Bench, name: str, server: ModelServerProcess, capacity: float, *, bound: float) -> list[Figure]:
    options = bench.options
    topics = bench.topics(f"overload-{name}")
    factory = _factory(bench, 6, options.budget_ms)
    loads: dict[int, Load] = {}
    faulty = 0
    settings = bench.settings(topics, [server.address], _overridden(bench))
    # At three times the capacity of the scorer, bidder and broker alone could use both cores.
    with (
        ScorerProcess(settings, bench.work / f"overload-{name}.log") as scorer,
        real_time_priority(scorer.pid, server.pid),
    ):
        warm_up = Repeats(factory, _POOL, prefix="warm-up")
        run_traffic(bench.bootstrap, topics, warm_up, rate=capacity / 2, seconds=options.seconds)
        for load in LOADS:
            repeats = Repeats(factory, _POOL, seed=load, prefix=f"{load}")
            report = run_traffic(
                bench.bootstrap, topics, repeats, rate=capacity * load / 100, seconds=_duration(options, load)
            )
            # The initial growth of the queue lasts as long as the budget.
            loads[load] = under_load(report.times, options.budget_ms, skip_s=options.budget_ms / 1e3)
            faulty += faults(report)
            bench.console.print(
                f"{name}, {load} %: {loads[load].offered:.1f} requests/s offered, {loads[load].goodput:.1f} answered "
                f"in time with all scores; p50 of all answers {percentile(report.times.latency_ms, 50):.0f} ms; "
                f"{report.statuses} {report.reasons or ''}"
            )
    return [*figures_of(name, loads, bound), Figure(f"{name}_faults", faulty, "requests", "<=", 0)]


def _factory(bench: Bench, seed: int, deadline_ms: float | None) -> RequestFactory:
    """Requests of a bidder that expects overload: small, with the deadline in a header."""
    return RequestFactory(
        bench.world,
        candidates=bench.options.candidates,
        seed=seed,
        layout="columns",
        headers=True,
        deadline_ms=deadline_ms,
    )


def _capacity(bench: Bench) -> float:
    """Requests of this form per second that a scorer with the real model server processes."""
    topic, size = "backlog-columns", bench.backlog_size
    bench.fill_new(topic, Repeats(_factory(bench, 3, None), _POOL, prefix="backlog"), size)
    return bench.process_backlog(topic, size, [bench.server.address]).requests_per_second


def _duration(options: Options, load: int) -> float:
    """Seconds of a load: the whole time for those of the ratio, else half; at least 3 budgets."""
    return max(options.seconds / (1 if load in {100, 300} else 2), 3 * options.budget_ms / 1e3)


def _discards(bench: Bench, address: str) -> list[Figure]:
    """Rates of answers to records that expired before the scorer started."""
    requests = max(100, round(bench.options.seconds * _EXPIRED_A_SECOND))
    rates = {}
    for where in ("headers", "body"):
        factory = RequestFactory(
            bench.world,
            candidates=bench.options.candidates,
            seed=7,
            deadline_ms=1.0,
            headers=where == "headers",
        )
        topic = f"expired-{where}"
        bench.fill_new(topic, Repeats(factory, _POOL, prefix=where), requests)
        rates[where] = bench.process_backlog(topic, requests, [address], {}, status="expired").requests_per_second
    return [Figure(f"expired_by_{where}", rate, "answers/s") for where, rate in rates.items()]


def _overridden(bench: Bench) -> dict[str, object]:
    return {"source.budget_ms": bench.options.budget_ms, "cache.enabled": False}
