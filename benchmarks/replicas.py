"""Two model servers of unequal speed: joint throughput, and the effect of losing one."""

import time

from benchmarks.bench import Bench, Service
from benchmarks.figures import faults, ok_share
from benchmarks.report import Figure, write
from sandbox.model_server.simulated import calls_of
from sandbox.processes.model_server import ModelServerProcess
from sandbox.processes.scorer import ScorerProcess
from sandbox.traffic.repeated_requests import Repeats
from sandbox.traffic.run import run_traffic
from sandbox.world.bid_requests import RequestFactory

FASTER = 3
AFTER_S = 5.0
_POOL = 256
_SHARE = 0.5
_BACK_S = 30.0
_STEP_S = 0.05


def run(bench: Bench) -> None:
    """Each server alone and both together; then the faster one is killed and restarted.

    Both are simulated.
    """
    options = bench.options
    slower = Service.of_capacity(options.capacity, options.candidates, workers=1)
    faster = Service.of_capacity(FASTER * options.capacity, options.candidates, workers=1)
    with bench.simulated(slower) as slow, bench.simulated(faster) as fast:
        figures = [*_together(bench, slow, fast), *_loss(bench, slow, fast)]
    settings = {
        "candidates": options.candidates,
        "seconds": options.seconds,
        "slower_capacity": options.capacity,
        "faster_capacity": FASTER * options.capacity,
        "rate_of_the_loss": _SHARE * options.capacity,
        "budget_ms_of_the_loss": options.budget_ms,
    }
    write("replicas", figures, settings, options.out)


def _together(bench: Bench, slow: ModelServerProcess, fast: ModelServerProcess) -> list[Figure]:
    """Backlogs, processed as fast as the servers can."""
    seconds, capacity = bench.options.seconds, bench.options.capacity
    rates = {}
    calls = (0, 0)
    for name, servers, times_capacity in (
        ("slower_alone", [slow], 1),
        ("faster_alone", [fast], FASTER),
        ("both", [slow, fast], FASTER + 1),
    ):
        requests = max(20, round(seconds * capacity * times_capacity))
        calls = (calls_of(slow.address), calls_of(fast.address))
        run = bench.process_backlog(bench.backlog(requests), requests, [server.address for server in servers])
        rates[name] = run.requests_per_second
        bench.console.print(f"{name}: {run.requests_per_second:.1f} requests/s")
    of_slow, of_fast = calls_of(slow.address) - calls[0], calls_of(fast.address) - calls[1]
    alone = rates["slower_alone"] + rates["faster_alone"]
    return [
        *(Figure(name, rate, "requests/s") for name, rate in rates.items()),
        Figure("both_over_sum", rates["both"] / alone, "ratio", ">=", 0.8),
        Figure("calls_of_the_faster", of_fast / (of_fast + of_slow), "ratio"),
    ]


def _loss(bench: Bench, slow: ModelServerProcess, fast: ModelServerProcess) -> list[Figure]:
    """Traffic that either server could score alone; the faster one is killed and restarted."""
    options = bench.options
    rate = _SHARE * options.capacity
    topics = bench.topics("replicas")
    moments: dict[str, float] = {}

    def meanwhile() -> None:
        time.sleep(options.seconds)
        moments["killed"] = time.monotonic()
        fast.kill()
        time.sleep(AFTER_S + 1.0)
        fast.start()
        moments["back"] = time.monotonic()
        while not calls_of(fast.address) and time.monotonic() < moments["back"] + _BACK_S:
            time.sleep(_STEP_S)
        moments["used"] = time.monotonic() if calls_of(fast.address) else float("nan")
        time.sleep(1.0)

    overridden = {"source.budget_ms": options.budget_ms, "cache.enabled": False}
    settings = bench.settings(topics, [slow.address, fast.address], overridden)
    factory = RequestFactory(bench.world, candidates=options.candidates, seed=12)
    with ScorerProcess(settings, bench.work / "replicas.log"):
        warm_up = Repeats(factory, _POOL, prefix="warm-up")
        run_traffic(bench.bootstrap, topics, warm_up, rate=rate, seconds=options.seconds)
        repeats = Repeats(factory, _POOL, seed=1, prefix="loss")
        report = run_traffic(bench.bootstrap, topics, repeats, rate=rate, seconds=0.0, meanwhile=meanwhile)
    killed = moments["killed"]
    return [
        Figure("ok_before_the_loss", ok_share(report.times, killed - options.seconds, killed), "ratio"),
        Figure("ok_after_the_loss", ok_share(report.times, killed, killed + AFTER_S), "ratio"),
        Figure("used_again_after", moments["used"] - moments["back"], "s", "<=", _BACK_S),
        Figure("faults", faults(report), "requests", "<=", 0),
    ]
