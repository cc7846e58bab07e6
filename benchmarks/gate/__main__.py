"""Simulates the gate on models with known truth: false passes and false rejections.

`python -m benchmarks.gate` prints the table of docs/publishing.md in about ten minutes; `--docs` also writes it there.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from rich.console import Console

from benchmarks.gate.simulation import SCENARIOS, TITLES, Rate, Wrong, rate, runs_of, wrong
from benchmarks.pages import replaced
from benchmarks.simulate import markdown

CLICKS = (5, 20, 100, 300, 1_000, 3_000, 5_000)
MARKS = "<!-- made by `python -m benchmarks.gate --docs`: begin -->", "<!-- made by it: end -->"
_CHUNK = 5
_PAGE = Path(__file__).parents[2] / "docs" / "publishing.md"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs all scenarios at all click counts, on all cores."""
    parser = argparse.ArgumentParser(prog="benchmarks.gate", description=__doc__)
    parser.add_argument("--gates", type=int, default=1_000, help="gates of each scenario (default 1000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clicks", type=int, nargs="+", default=CLICKS, help="clicks of the test split")
    parser.add_argument("--docs", type=Path, nargs="?", const=_PAGE, help="page that gets the table")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    # The longest first, so that no core waits for one of them at the end.
    keys = [(name, clicks) for clicks in sorted(options.clicks, reverse=True) for name in SCENARIOS]
    tasks = [(name, clicks, run) for name, clicks in keys for run in range(runs_of(name, options.gates))]
    simulate = partial(_wrong, seed=options.seed)
    if options.processes == 1:
        found = list(map(simulate, tasks))
    else:
        with ProcessPoolExecutor(options.processes) as pool:
            found = list(pool.map(simulate, tasks, chunksize=_CHUNK))
    runs: dict[tuple[str, int], list[Wrong]] = {key: [] for key in keys}
    for (name, clicks, _), decided in zip(tasks, found, strict=True):
        runs[name, clicks].append(decided)
    made = table({key: rate(decided) for key, decided in runs.items()}, options.clicks, options.gates)
    Console(highlight=False).print(made, soft_wrap=True)
    if options.docs is not None:
        options.docs.write_text(replaced(options.docs.read_text(), made, MARKS))


def table(found: Mapping[tuple[str, int], Rate], clicks: Sequence[int], gates: int) -> str:
    """The rates in percent, `before → after`, as Markdown."""
    header = [f"{gates:,} gates each; clicks of the test split:", *(f"{n:,}" for n in clicks)]
    rows = [[TITLES[name], *(_cell(found[name, n]) for n in clicks)] for name in SCENARIOS]
    return markdown((header, *rows))


def _wrong(task: tuple[str, int, int], *, seed: int) -> Wrong:
    return wrong(*task, seed)


def _cell(found: Rate) -> str:
    return f"{100 * found.before:.3g} → {100 * found.after:.3g}"


if __name__ == "__main__":
    main()
