"""Runs the named chaos scenarios and writes their figures to `build/chaos/<scenario>.json`.

Each scenario has its own topics, group and scorer. Kafka is real; the model server is simulated, because the values of
the scores do not matter here. `docs/reliability.md` has the bounds of each scenario.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.bench import Bench, Options
from benchmarks.chaos.brokers import broker_cut, broker_full, broker_kill, broker_stop, output_forbidden
from benchmarks.chaos.clusters import lost_broker, moved_leaders, rolling_brokers
from benchmarks.chaos.crashes import kill_one_of_two, kill_only_worker, kills, reload
from benchmarks.chaos.groups import backlog, lost_machine, two_supervisors
from benchmarks.chaos.plans import plans
from benchmarks.chaos.requests import poison, soak
from benchmarks.chaos.scene import Chaos, Settings
from benchmarks.chaos.servers import model_server, overload
from benchmarks.chaos.workers import rebalances, sigterm, worker_kill
from benchmarks.report import Figure, write
from sandbox.broker.kafka import KafkaBroker
from sandbox.host.ports import free_ports
from sandbox.host.tcp_proxy import TcpProxy

OUT = Path("build/chaos")
_AUTHORIZED = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}
Scenario = Callable[[Chaos], list[Figure]]


@dataclass(frozen=True, slots=True)
class Defaults:
    """Values of the options that the command line does not set."""

    rate: float
    candidates: int
    times: int
    budget_ms: float


_FAULTS = Defaults(rate=100.0, candidates=100, times=10, budget_ms=1000.0)
"""Scenarios of delivery: the budget is generous, `times` repeats the fault in one run."""
_EVENTS = Defaults(rate=100.0, candidates=50, times=3, budget_ms=200.0)
"""Scenarios that count requests without scores: `times` runs, of which the median decides."""
_PLANS = Defaults(rate=60.0, candidates=50, times=500, budget_ms=1000.0)
"""`times` plans, whose seeds begin with `--seed`."""
SCENARIOS: Mapping[str, tuple[Scenario, Defaults]] = {
    scenario.__name__: (scenario, defaults)
    for defaults, scenarios in (
        (
            _FAULTS,
            (
                worker_kill,
                sigterm,
                broker_stop,
                broker_kill,
                broker_cut,
                broker_full,
                output_forbidden,
                model_server,
                rebalances,
                poison,
                overload,
                soak,
            ),
        ),
        (
            _EVENTS,
            (
                kill_one_of_two,
                kill_only_worker,
                reload,
                kills,
                two_supervisors,
                lost_machine,
                backlog,
                rolling_brokers,
                lost_broker,
                moved_leaders,
            ),
        ),
        (_PLANS, (plans,)),
    )
    for scenario in scenarios
}
LONG = ("soak", "plans")
"""Scenarios that run only if they are named, or with `--all`."""


def main() -> int:
    """Runs the named scenarios. Exit status 1 if a bound is not kept."""
    parser = argparse.ArgumentParser(prog="benchmarks.chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("scenario", nargs="*", help=f"{', '.join(SCENARIOS)}; default: all except {', '.join(LONG)}")
    parser.add_argument("--all", action="store_true", help="also the long ones")
    parser.add_argument("--rate", type=float, help="requests per second; default: 100, or 60 for plans")
    parser.add_argument("--candidates", type=int, help="candidates per request; default: 100, or 50")
    parser.add_argument("--times", type=int, help="repetitions of a fault; default: 10, 3 runs, or 500 plans")
    parser.add_argument("--seconds", type=float, default=900.0, help="duration of the soak")
    parser.add_argument("--budget-ms", type=float, help="budget of each request; default: 1000, or 200")
    parser.add_argument("--seed", type=int, help="run this plan alone; with --times, begin with it")
    parser.add_argument("--guarantee", choices=("at_least_once", "exactly_once"), default="at_least_once")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    chosen = arguments.scenario or [name for name in SCENARIOS if arguments.all or name not in LONG]
    unknown = [name for name in chosen if name not in SCENARIOS]
    if unknown:
        parser.error(f"unknown scenario {', '.join(map(repr, unknown))}; the scenarios are {', '.join(SCENARIOS)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that child processes are stopped
    (port,) = free_ports(1)
    with TcpProxy(port) as proxy:
        broker = KafkaBroker(port=port, advertised_port=proxy.port, config=_AUTHORIZED)
        with Bench(Options(out=arguments.out), Console(highlight=False), broker) as bench:
            broken = _run(bench, proxy, chosen, arguments)
    for bound in broken:
        print(f"does not hold: {bound}")
    return 1 if broken else 0


def _run(bench: Bench, proxy: TcpProxy, chosen: Sequence[str], arguments: argparse.Namespace) -> list[str]:
    """Runs the scenarios; returns the bounds that do not hold."""
    broken: list[str] = []
    for name in chosen:
        scenario, defaults = SCENARIOS[name]
        settings = settings_of(arguments, defaults)
        bench.console.print(f"{name}: {(scenario.__doc__ or '').strip()}", style="bold")
        figures = scenario(Chaos(bench, settings, proxy))
        write(name, figures, asdict(settings), arguments.out)
        broken += [f"{name}: {figure.name}" for figure in figures if figure.holds is False]
    return broken


def settings_of(arguments: argparse.Namespace, defaults: Defaults) -> Settings:
    """The options of the command line; those that it does not set have the defaults."""
    chosen = {name: value for name in asdict(defaults) if (value := getattr(arguments, name)) is not None}
    if arguments.seed is not None:
        chosen = {"seed": arguments.seed, "times": 1, **chosen}
    return Settings(**{**asdict(defaults), **chosen}, seconds=arguments.seconds, guarantee=arguments.guarantee)


if __name__ == "__main__":
    sys.exit(main())
