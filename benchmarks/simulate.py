"""Simulates a fleet of workers and model servers from measured costs.

`python -m benchmarks.simulate` prints the tables of docs/capacity.md, `--docs` writes them there. With `--workers` and
`--rate` it simulates one fleet. `--check` compares the model with the real system on this machine, `--calibrate` also
keeps the costs that it measures for that, and writes the comparison into the page.
"""

import argparse
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.bench import Bench, Options
from benchmarks.latency import RATE
from benchmarks.report import write
from benchmarks.simulation import check, costs
from benchmarks.simulation.calibrate import calibrate
from benchmarks.simulation.fleet import Fault, Setup, simulate
from benchmarks.simulation.sizing import PRICE, servers_for, size_of
from benchmarks.simulation.studies import QUICK, STUDIES, Scale, Table

_PAGE = Path(__file__).parents[1] / "docs" / "capacity.md"
_SKIP = 0.2


def run(bench: Bench, *, keep: bool = False) -> None:
    """Measures the costs, and compares the model with the system; `keep`: keeps costs and table."""
    measured = calibrate(bench)
    found = check.compared(bench, measured)
    table = markdown(check.table(found))
    print(table)
    if keep:
        costs.write(measured)
        _PAGE.write_text(with_table(_PAGE.read_text(), "check", table))
    settings = {
        "model_server": measured.server_program,
        "candidates": bench.options.candidates,
        "rounds": bench.options.rounds,
        "rate_of_the_times": RATE,
        "scorer_request_ms": 1e3 / measured.worker_rate,
        "server_request_ms": measured.call_s(measured.candidates) * 1e3,
        "broker_request_ms": measured.other.broker_ms,
    }
    write("simulate", [figure for one in found for figure in one.figures()], settings, bench.options.out)


def markdown(table: Table) -> str:
    """A table for a page."""
    header, *rows = table
    lines = [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]
    return "\n".join(lines)


def with_table(page: str, name: str, table: str) -> str:
    """The page with a new table between the marks of this name.

    Raises:
        ValueError: the page does not have the marks.
    """
    pattern = re.compile(rf"(<!-- simulated: {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"the page has no marks for the table {name!r}")
    return pattern.sub(lambda found: f"{found[1]}{table}\n{found[2]}", page)


def _tables(names: Sequence[str], scale: Scale, *, docs: bool) -> None:
    measured = costs.read()
    for name in names:
        start = time.monotonic()
        table = markdown(STUDIES[name](measured, scale))
        print(f"{name} ({time.monotonic() - start:.0f} s)\n\n{table}\n", flush=True)
        if docs:
            _PAGE.write_text(with_table(_PAGE.read_text(), name, table))


def _fleet(given: argparse.Namespace) -> None:
    """Prints the figures of one fleet."""
    measured = costs.read()
    cell = min(given.workers, given.cell)
    setup = Setup(
        rate=given.rate,
        cells=max(1, round(given.workers / cell)),
        cell_workers=cell,
        cell_servers=given.servers or max(2, servers_for(measured, cell, given.server_cores)),
        server_cores=given.server_cores,
        partitions=given.partitions or 4 * given.workers,
        exponent=given.exponent,
        candidates=given.candidates,
        budget_ms=given.budget_ms,
        seconds=given.seconds,
    )
    faults = [Fault(given.seconds / 2, "kill_server")] if given.lose_server else []
    found = simulate(setup, measured, faults)
    seen = found.between(_SKIP * given.seconds, given.seconds)
    batch = len(found.sent) / max(1, found.calls)
    size = size_of(
        measured,
        given.rate,
        load=max(0.01, float(found.worker_used.mean())),
        batch=batch,
        server_cores=given.server_cores,
        price=given.price,
        candidates=given.candidates,
    )
    print(f"{setup.workers} workers and {setup.cells * setup.cell_servers} model servers in {setup.cells} cells")
    print(f"busy: workers {found.worker_used.mean():.0%} (the hottest {found.worker_used.max():.0%}), ", end="")
    print(f"model servers {found.server_used.mean():.0%} (the hottest {found.server_used.max():.0%})")
    print(f"scored in time: {seen.ok_share:.2%}, {seen.goodput:,.0f} requests/s")
    print(
        f"end to end p50 {seen.p50_ms:.1f}, p99 {seen.p99_ms:.1f} ms; scoring p50 {seen.scoring_p50_ms:.1f}, ", end=""
    )
    print(f"p99 {seen.scoring_p99_ms:.1f} ms; {batch:.1f} requests per call, {found.rejected} rejected calls")
    print(f"topics {size.topic_bytes / 1e9:.3g} GB/s, calls {size.rpc_bytes / 1e9:.3g} GB/s; ", end="")
    print(f"at this load a million requests cost {size.million:.3f} dollars (at {given.price:g} per core and hour)")


def main() -> int:
    """Runs what the command line names."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.simulate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="*", help=f"{', '.join(STUDIES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="some seconds of simulation, for a first look")
    parser.add_argument("--docs", action="store_true", help=f"also write the tables to {_PAGE.name}")
    parser.add_argument("--check", action="store_true", help="compare with the real system on this machine")
    parser.add_argument("--calibrate", action="store_true", help="the same; and keep the measured costs")
    parser.add_argument("--rounds", type=int, default=3, help="of --check")
    fleet = parser.add_argument_group("one fleet")
    fleet.add_argument("--workers", type=int, help="workers of the fleet; a worker has one core")
    fleet.add_argument("--rate", type=float, help="requests per second")
    fleet.add_argument("--cell", type=int, default=10, help="workers that share model servers")
    fleet.add_argument("--servers", type=int, help="model servers of a cell; default: as busy as the workers")
    fleet.add_argument("--server-cores", type=int, default=4)
    fleet.add_argument("--partitions", type=int, help="default: 4 for each worker")
    fleet.add_argument("--exponent", type=float, default=0.0, help="Zipf exponent of the users' requests")
    fleet.add_argument("--candidates", type=int, default=300)
    fleet.add_argument("--budget-ms", type=float, default=30.0)
    fleet.add_argument("--lose-server", action="store_true", help="kill a model server after half of the time")
    fleet.add_argument("--price", type=float, default=PRICE, help="dollars per core and hour")
    fleet.add_argument("--seconds", type=float, default=3.0, help="simulated seconds; with --check: of a measurement")
    given = parser.parse_args()
    unknown = [name for name in given.tables if name not in STUDIES]
    if unknown:
        parser.error(f"unknown table {', '.join(map(repr, unknown))}; the tables are {', '.join(STUDIES)}")
    if (given.workers is None) != (given.rate is None):
        parser.error("--workers and --rate go together")
    if given.check or given.calibrate:
        seconds = max(given.seconds, Options().seconds)
        with Bench(Options(seconds=seconds, rounds=given.rounds), Console(highlight=False)) as bench:
            run(bench, keep=given.calibrate)
    elif given.workers is not None:
        _fleet(given)
    else:
        _tables(given.tables or [*STUDIES], QUICK if given.quick else Scale(), docs=given.docs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
