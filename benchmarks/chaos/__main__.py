"""Runs the scenarios that are named; figures go to `build/chaos/<scenario>.json`.

Each has topics, a group and a scorer of its own. Kafka is real, the model server a simulated one, because what is
scored does not matter here. `docs/reliability.md` says what each must show.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.chaos.brokers import broker_cut, broker_full, broker_kill, broker_stop, output_forbidden
from benchmarks.chaos.requests import poison, soak
from benchmarks.chaos.scene import Chaos, Settings
from benchmarks.chaos.servers import model_server, overload
from benchmarks.chaos.workers import rebalances, sigterm, worker_kill
from benchmarks.common import Bench, Options
from benchmarks.report import Figure, write
from sandbox.broker import KafkaBroker
from sandbox.broker.ports import free_ports
from sandbox.proxy import Proxy

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
    """Runs the scenarios that are named. Exit status 1 if a bound is not kept."""
    parser = argparse.ArgumentParser(prog="benchmarks.chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("scenario", nargs="*", help=f"{', '.join(SCENARIOS)}; all without one")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--times", type=int, default=10, help="how often a fault is repeated")
    parser.add_argument("--seconds", type=float, default=900.0, help="of the soak")
    parser.add_argument("--budget-ms", type=float, default=1000.0)
    parser.add_argument("--guarantee", choices=("at_least_once", "exactly_once"), default="at_least_once")
    parser.add_argument("--out", type=Path, default=OUT)
    said = parser.parse_args()
    chosen = said.scenario or list(SCENARIOS)
    unknown = [name for name in chosen if name not in SCENARIOS]
    if unknown:
        parser.error(f"no scenario {', '.join(map(repr, unknown))}; there are {', '.join(SCENARIOS)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started is ended
    settings = Settings(said.rate, said.times, said.seconds, said.budget_ms, said.guarantee)
    (port,) = free_ports(1)
    with Proxy(port) as proxy:
        broker = KafkaBroker(port=port, advertised_port=proxy.port, config=_AUTHORIZED)
        options = Options(candidates=said.candidates, out=said.out)
        with Bench(options, Console(highlight=False), broker) as bench:
            broken = _run(Chaos(bench, settings, proxy), chosen, said)
    for what in broken:
        print(f"does not hold: {what}")
    return 1 if broken else 0


def _run(chaos: Chaos, chosen: Sequence[str], said: argparse.Namespace) -> list[str]:
    """What did not hold, of the scenarios that are named."""
    broken: list[str] = []
    bench = chaos.bench
    for name in chosen:
        bench.console.print(f"{name}: {(SCENARIOS[name].__doc__ or '').strip()}", style="bold")
        figures = SCENARIOS[name](chaos)
        known = {key: value for key, value in vars(said).items() if key not in {"scenario", "out"}}
        write(name, figures, known, said.out)
        broken += [f"{name}: {figure.name}" for figure in figures if figure.holds is False]
    return broken


if __name__ == "__main__":
    sys.exit(main())
