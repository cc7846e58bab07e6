"""`make bench`: runs scenarios, writes their figures to files, and prints the bounds."""

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from benchmarks import (
    cache,
    decisions,
    delivery,
    distributed,
    fairness,
    first_load,
    http_endpoint,
    input_pipeline,
    latency,
    memory,
    model_rows,
    overload,
    protocols,
    replicas,
    serving_settings,
    simulate,
    stages,
    sweep,
    switch,
    tables_by_id,
    throughput,
    tracing,
    workers,
)
from benchmarks.bench import Bench, Options
from benchmarks.bounds import TABLE
from benchmarks.machine import loop_ms
from benchmarks.peers import scenario as peers
from benchmarks.summary import summarise
from sandbox.processes.server_program import ServerProgramError, server_program

SCENARIOS: Mapping[str, Callable[[Bench], None]] = {
    "throughput": throughput.run,
    "latency": latency.run,
    "memory": memory.run,
    "stages": stages.run,
    "sweep": sweep.run,
    "decisions": decisions.run,
    "overload": overload.run,
    "switch": switch.run,
    "cache": cache.run,
    "replicas": replicas.run,
    "protocols": protocols.run,
    "delivery": delivery.run,
    "workers": workers.run,
    "http": http_endpoint.run,
    "tracing": tracing.run,
    "serving_settings": serving_settings.run,
    "model_rows": model_rows.run,
    "input_pipeline": input_pipeline.run,
    "fairness": fairness.run,
    "peers": peers.run,
    "tables": tables_by_id.run,
    "catalogue": first_load.run,
    "distributed": distributed.run,
    "simulate": simulate.run,
}
ESSENTIAL = ("throughput", "latency")
"""Scenarios that run without a name; the others run by name or with `--all`."""
BY_NAME = ("distributed",)
"""Scenarios that run by name only: minutes of training, which say nothing about the scorer."""
_SECONDS_OF_ALL = 8.0
"""With it all scenarios together take less than an hour: most without a bound in the table run once, half as long."""


def main() -> int:
    """Runs the named scenarios.

    Bounds are printed, not enforced. After a failed scenario the others run; the result is then 1.
    """
    # Suppresses TensorFlow's information and warnings; some scenarios load it later.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    defaults = Options()
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("scenario", nargs="*", help=f"{', '.join(SCENARIOS)}; default: {', '.join(ESSENTIAL)}")
    parser.add_argument("--all", action="store_true", help="every scenario but " + ", ".join(BY_NAME))
    parser.add_argument(
        "--seconds",
        type=float,
        help=f"duration of one measurement; default: {defaults.seconds:g}, or {_SECONDS_OF_ALL:g} with --all",
    )
    parser.add_argument("--rounds", type=int, default=defaults.rounds, help="rounds of the compared programs")
    parser.add_argument("--candidates", type=int, default=defaults.candidates)
    parser.add_argument(
        "--capacity", type=float, default=defaults.capacity, help="requests/s that a simulated server can score"
    )
    parser.add_argument("--budget-ms", type=float, default=defaults.budget_ms, help="budget of requests under overload")
    parser.add_argument("--out", type=Path, default=defaults.out)
    arguments = vars(parser.parse_args())
    everything = arguments.pop("all")
    if arguments["seconds"] is None:
        arguments["seconds"] = _SECONDS_OF_ALL if everything else defaults.seconds
    chosen = arguments.pop("scenario") or [
        name for name in SCENARIOS if (name not in BY_NAME if everything else name in ESSENTIAL)
    ]
    unknown = [name for name in chosen if name not in SCENARIOS]
    if unknown:
        parser.error(f"unknown scenario {', '.join(map(repr, unknown))}; the scenarios are {', '.join(SCENARIOS)}")
    try:
        model_server = server_program().version
    except ServerProgramError as error:
        parser.error(str(error))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that child processes are stopped
    options, console, started, before = Options(**arguments), Console(highlight=False), time.time(), loop_ms()
    whole = {"stages", "simulate", *(line.limit.scenario for line in TABLE)}
    took, failed = dict[str, float](), list[str]()
    with Bench(options, console) as bench:
        for name in chosen:
            start = time.monotonic()
            if everything and name not in whole:
                bench.options = replace(options, seconds=options.seconds / 2, rounds=1)
            else:
                bench.options = options
            try:
                SCENARIOS[name](bench)
            except Exception:  # noqa: BLE001  of an hour of measurements one must not end the others
                console.print_exception()
                console.print(f"{name} failed")
                failed.append(name)
            took[name] = time.monotonic() - start
    console.print("seconds: " + ", ".join(f"{name} {seconds:.0f}" for name, seconds in took.items()))
    summarise(console, options, model_server, (before, loop_ms()), started)
    if failed:
        console.print(f"failed: {', '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
