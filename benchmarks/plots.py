"""Draws the figures in `build/bench/*.json` into `docs/images/`, and writes their tables."""

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from benchmarks.bounds import Values
from benchmarks.pages import replaced
from benchmarks.report import values_of
from benchmarks.tables import MARKS, section

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

SERVERS = {"steady": "steady model server", "stalling": "one that stops for 200 ms every 2 s"}
"""Servers of the scenario `decisions`."""

PROGRAMS = ("naive", "floor", "scorer")
_LEGEND_ABOVE = frozenset({"capacity_by_program", "latency_over_rate"})
_COLOURS = {"rows": "tab:blue", "columns": "tab:orange", "id": "tab:green"}


def series(values: Values, prefix: str, suffix: str = "") -> tuple[list[int], list[float]]:
    """x and y of the figures with names `prefix`, an integer x, `suffix`; ordered by x."""
    pattern = re.compile(f"{re.escape(prefix)}(\\d+){re.escape(suffix)}")
    found = {int(match[1]): value for name, value in values.items() if (match := pattern.fullmatch(name))}
    return sorted(found), [found[x] for x in sorted(found)]


def latency_over_load(values: Values, axes: "Axes") -> None:
    """Time from request to scores of requests scored in time: median and 99th percentile."""
    for colour, (server, meaning) in zip(("tab:blue", "tab:orange"), SERVERS.items(), strict=True):
        for percentile, style in (("p50", "o-"), ("p99", "s--")):
            loads, ms = series(values, f"{server}_latency_{percentile}_")
            axes.plot(loads, ms, style, color=colour, label=f"{percentile}, {meaning}")
    axes.set(yscale="log", ylabel="request to scores, ms", title="Latency over load")
    _plain_numbers(axes.yaxis)


def batch_over_load(values: Values, axes: "Axes") -> None:
    """Mean rows of a batch, which grow with the load."""
    for server, meaning in SERVERS.items():
        axes.plot(*series(values, f"{server}_batch_rows_"), "o-", label=meaning)
    axes.set(ylabel="rows of a batch, mean", title="Batch size over load")
    axes.set_ylim(bottom=0)


def goodput_under_overload(values: Values, axes: "Axes") -> None:
    """Answers in time relative to those at 100 % load, so that both servers fit in one picture."""
    for server, meaning in SERVERS.items():
        loads, rates = series(values, f"{server}_goodput_")
        at_full = dict(zip(loads, rates, strict=True)).get(100, 0.0)
        if at_full:
            axes.plot(loads, [rate / at_full for rate in rates], "o-", label=meaning)
    axes.set(ylabel="answers in time, relative to 100 % load", title="Goodput under overload")
    axes.set_ylim(bottom=0)


def hit_ratio_over_size(values: Values, axes: "Axes") -> None:
    """Hit ratios of the cache and of an ideal cache on the same trace."""
    for prefix, meaning in (("hit_ratio_", "score cache"), ("ideal_hit_ratio_", "ideal LRU of as many entries")):
        axes.plot(*series(values, prefix, "_kib"), "o-", label=meaning)
    axes.set(xscale="log", xlabel="size of the cache, KiB", ylabel="hit ratio", title="Hit ratio over cache size")
    axes.set_ylim(0, 1)
    _plain_numbers(axes.xaxis)


def capacity_by_program(values: Values, axes: "Axes") -> None:
    """Requests per second of each program, candidates as rows and as columns."""
    layouts = ("rows", "columns")
    for at, program in enumerate(PROGRAMS):
        rates = [values.get(f"{layout}_{program}_rate", 0.0) for layout in layouts]
        places = [at + 0.4 * i for i in range(len(layouts))]
        for place, rate, layout in zip(places, rates, layouts, strict=True):
            axes.bar(place, rate, 0.38, color=_COLOURS[layout], label=layout if not at else None)
            axes.text(place, rate, f"{rate:.0f}", ha="center", va="bottom", fontsize=8)
    axes.set_xticks([at + 0.2 for at in range(len(PROGRAMS))], PROGRAMS)
    axes.set(ylabel="requests/s of 300 candidates", title="Capacity by program")


def cpu_by_stage(values: Values, axes: "Axes") -> None:
    """CPU time per request of each stage of the scorer."""
    ends = {"sum", "whole"}
    names = [name.removeprefix("rows, ") for name in values if name.startswith("rows, ")]
    stages = [name for name in names if name not in ends][::-1]
    for i, layout in enumerate(("id", "columns", "rows")):
        times = [values.get(f"{layout}, {stage}", 0.0) for stage in stages]
        axes.barh([at + 0.28 * i for at in range(len(stages))], times, 0.26, color=_COLOURS[layout], label=layout)
    axes.set_yticks([at + 0.28 for at in range(len(stages))], stages, fontsize=8)
    axes.set(xlabel="µs of CPU per request of 300 candidates", title="CPU time by stage of the scorer")


def latency_over_rate(values: Values, axes: "Axes") -> None:
    """Scoring and end-to-end latency over the rate."""
    for prefix, meaning in (("scoring", "receipt to answer"), ("end_to_end", "intended send time to ranker")):
        for percentile, style in (("p50", "o-"), ("p99", "s--")):
            axes.plot(*series(values, f"{prefix}_{percentile}_at_"), style, label=f"{percentile}, {meaning}")
    axes.set(yscale="log", xlabel="rate, % of saturation", ylabel="ms", title="Latency over rate")
    axes.set_ylim(top=5 * axes.get_ylim()[1])  # room for the legend
    _plain_numbers(axes.yaxis)


def cost_over_candidates(values: Values, axes: "Axes") -> None:
    """CPU time per candidate over the number of candidates in a request."""
    axes.plot(*series(values, "cpu_per_candidate_"), "o-")
    axes.set(xscale="log", yscale="log", xlabel="candidates per request", ylabel="µs of the scorer's CPU per candidate")
    axes.set_title("Cost of a candidate over the size of requests")
    for axis in (axes.xaxis, axes.yaxis):
        _plain_numbers(axis)


def _plain_numbers(axis: "Axis") -> None:
    """Labels such as 20 on a logarithmic axis, at 1, 2 and 5 of each decade."""
    from matplotlib.ticker import LogLocator  # noqa: PLC0415

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")


PICTURES: Mapping[str, tuple[str, Callable[[Values, "Axes"], None]]] = {
    "latency_over_load": ("decisions", latency_over_load),
    "batch_over_load": ("decisions", batch_over_load),
    "goodput_under_overload": ("decisions", goodput_under_overload),
    "hit_ratio_over_cache_size": ("cache", hit_ratio_over_size),
    "capacity_by_program": ("throughput", capacity_by_program),
    "cpu_by_stage": ("stages", cpu_by_stage),
    "latency_over_rate": ("sweep", latency_over_rate),
    "cost_over_candidates": ("sweep", cost_over_candidates),
}


IN_PAGE = {
    "capacity_by_program": "capacity of naive program, floor and scorer on rows and columns",
    "cpu_by_stage": "CPU time of each stage of the scorer",
    "latency_over_rate": "latency over the rate",
    "cost_over_candidates": "cost of a candidate over the number of candidates",
}
"""Titles of the pictures in the page of the tables."""


def draw(figures: Path, images: Path) -> list[Path]:
    """Draws every picture whose scenario has a file in `figures`; returns the written files."""
    # Imported here, so that the functions above work without matplotlib.
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    images.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, (scenario, picture) in PICTURES.items():
        if not (figures / f"{scenario}.json").exists():
            continue
        figure, axes = plt.subplots(figsize=(7, 4), constrained_layout=True)
        if scenario == "decisions":
            axes.set_xlabel("offered load, % of what the server can score")
        picture(values_of(figures / f"{scenario}.json"), axes)
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            # Upper left or lower right: the search for the best place takes seconds on a busy machine.
            axes.legend(fontsize=8, loc=2 if name in _LEGEND_ABOVE else 4)
        drawn.append(images / f"{name}.png")
        figure.savefig(drawn[-1], dpi=110)
        plt.close(figure)
    return drawn


def main() -> int:
    """Draws the pictures. Exit status 1 if there is nothing to draw."""
    parser = argparse.ArgumentParser(prog="benchmarks.plots", description=__doc__)
    parser.add_argument("--figures", type=Path, default=Path("build/bench"))
    parser.add_argument("--images", type=Path, default=Path("docs/images"))
    parser.add_argument("--page", type=Path, default=Path("docs/performance.md"))
    arguments = parser.parse_args()
    drawn = draw(arguments.figures, arguments.images)
    console = Console(highlight=False)
    for path in drawn:
        console.print(path)
    contents = {path.stem: json.loads(path.read_text()) for path in sorted(arguments.figures.glob("*.json"))}
    if contents:
        pictures = {name: title for name, title in IN_PAGE.items() if (arguments.images / f"{name}.png").exists()}
        page = arguments.page.read_text(encoding="utf-8")
        arguments.page.write_text(replaced(page, section(contents, pictures), MARKS), encoding="utf-8")
        console.print(arguments.page)
    if not drawn:
        console.print(f"no figures in {arguments.figures}; `make bench` writes them", style="red")
    return 0 if drawn else 1


if __name__ == "__main__":
    sys.exit(main())
