"""`make bench`: runs scenarios; each prints its figures beside their bounds and writes them to a file of its own."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console

from benchmarks import (
    cache,
    decisions,
    delivery,
    distributed,
    input_pipeline,
    latency,
    overload,
    replicas,
    switch,
    throughput,
    workers,
)
from benchmarks.common import Bench, Options

SCENARIOS: Mapping[str, Callable[[Bench], None]] = {
    "throughput": throughput.run,
    "latency": latency.run,
    "decisions": decisions.run,
    "overload": overload.run,
    "switch": switch.run,
    "cache": cache.run,
    "replicas": replicas.run,
    "delivery": delivery.run,
    "workers": workers.run,
    "input_pipeline": input_pipeline.run,
    "distributed": distributed.run,
}
LONG = frozenset({"distributed"})
"""Those that run only by name, or with `--all`."""


def main() -> int:
    """Runs the scenarios that are named. Bounds are printed, not enforced; what cannot be measured raises."""
    # TensorFlow greets, and wonders at one function for each model; it is loaded later, if at all.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    defaults = Options()
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("scenario", nargs="*", help=f"{', '.join(SCENARIOS)}; without one, all but the long")
    parser.add_argument("--all", action="store_true", help=f"the long ones, too: {', '.join(sorted(LONG))}")
    parser.add_argument("--seconds", type=float, default=defaults.seconds, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=defaults.rounds, help="turns of the compared programs")
    parser.add_argument("--candidates", type=int, default=defaults.candidates)
    parser.add_argument("--capacity", type=float, default=defaults.capacity, help="requests/s of a simulated server")
    parser.add_argument("--budget-ms", type=float, default=defaults.budget_ms, help="of requests that may be too late")
    parser.add_argument("--out", type=Path, default=defaults.out)
    arguments = vars(parser.parse_args())
    everything = arguments.pop("all")
    chosen = arguments.pop("scenario") or [name for name in SCENARIOS if everything or name not in LONG]
    unknown = [name for name in chosen if name not in SCENARIOS]
    if unknown:
        parser.error(f"no scenario {', '.join(map(repr, unknown))}; there are {', '.join(SCENARIOS)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started is ended
    with Bench(Options(**arguments), Console(highlight=False)) as bench:
        for name in chosen:
            SCENARIOS[name](bench)
    return 0


if __name__ == "__main__":
    sys.exit(main())
