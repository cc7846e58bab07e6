"""Runs the named chaos scenarios and writes their figures to `build/chaos/<scenario>.json`.

Each scenario has its own topics, group and scorer. Kafka is real; the model server is simulated, because the values of
the scores do not matter here. `docs/reliability.md` has the bounds of each scenario.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.bench import Bench, Options
from benchmarks.chaos.brokers import broker_cut, broker_full, broker_kill, broker_stop, output_forbidden
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
SCENARIOS: Mapping[str, Callable[[Chaos], list[Figure]]] = {
    scenario.__name__: scenario
    for scenario in (
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
    )
}


def main() -> int:
    """Runs the named scenarios. Exit status 1 if a bound is not kept."""
    parser = argparse.ArgumentParser(prog="benchmarks.chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("scenario", nargs="*", help=f"{', '.join(SCENARIOS)}; default: all")
    parser.add_argument("--rate", type=float, default=100.0, help="requests per second")
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--times", type=int, default=10, help="repetitions of a fault")
    parser.add_argument("--seconds", type=float, default=900.0, help="duration of the soak")
    parser.add_argument("--budget-ms", type=float, default=1000.0)
    parser.add_argument("--guarantee", choices=("at_least_once", "exactly_once"), default="at_least_once")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    chosen = arguments.scenario or list(SCENARIOS)
    unknown = [name for name in chosen if name not in SCENARIOS]
    if unknown:
        parser.error(f"unknown scenario {', '.join(map(repr, unknown))}; the scenarios are {', '.join(SCENARIOS)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that child processes are stopped
    settings = Settings(arguments.rate, arguments.times, arguments.seconds, arguments.budget_ms, arguments.guarantee)
    (port,) = free_ports(1)
    with TcpProxy(port) as proxy:
        broker = KafkaBroker(port=port, advertised_port=proxy.port, config=_AUTHORIZED)
        options = Options(candidates=arguments.candidates, out=arguments.out)
        with Bench(options, Console(highlight=False), broker) as bench:
            broken = _run(Chaos(bench, settings, proxy), chosen, arguments)
    for bound in broken:
        print(f"does not hold: {bound}")
    return 1 if broken else 0


def _run(chaos: Chaos, chosen: Sequence[str], arguments: argparse.Namespace) -> list[str]:
    """Runs the scenarios; returns the bounds that do not hold."""
    broken: list[str] = []
    bench = chaos.bench
    for name in chosen:
        bench.console.print(f"{name}: {(SCENARIOS[name].__doc__ or '').strip()}", style="bold")
        figures = SCENARIOS[name](chaos)
        known = {key: value for key, value in vars(arguments).items() if key not in {"scenario", "out"}}
        write(name, figures, known, arguments.out)
        broken += [f"{name}: {figure.name}" for figure in figures if figure.holds is False]
    return broken


if __name__ == "__main__":
    sys.exit(main())
