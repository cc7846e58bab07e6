"""The format of the result of every benchmark: `build/bench/<scenario>.json`."""

import json
import math
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.bounds import HOLDS, Relation, Values


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value; NaN if it could not be measured. `bound` is None if it has no bound."""

    name: str
    value: float
    unit: str
    relation: Relation | None = None
    bound: float | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the value keeps its bound; None without a bound, False if it was not measured."""
        if self.relation is None or self.bound is None:
            return None
        return bool(HOLDS[self.relation](self.value, self.bound))


def content_of(scenario: str, figures: Sequence[Figure], settings: Mapping[str, object]) -> dict[str, object]:
    """The content of the scenario's file."""
    return {
        "scenario": scenario,
        "command": " ".join(["python", *sys.orig_argv[1:]]),
        "machine": {
            "cores": os.cpu_count(),
            "processor": processor(),
            "python": platform.python_version(),
            "system": platform.platform(),
        },
        "settings": dict(settings),
        "figures": {
            f.name: {
                "value": None if math.isnan(f.value) else round(f.value, 4),
                "unit": f.unit,
                "bound": None if f.bound is None else f"{f.relation} {f.bound:g}",
                "holds": f.holds,
            }
            for f in figures
        },
    }


def values_of(path: Path) -> Values:
    """The figures in a scenario's file, without those that were not measured."""
    figures = json.loads(path.read_text())["figures"]
    return {name: float(figure["value"]) for name, figure in figures.items() if figure["value"] is not None}


def write(scenario: str, figures: Sequence[Figure], settings: Mapping[str, object], out: Path) -> None:
    """Writes the scenario's file and prints its figures with their bounds."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content_of(scenario, figures, settings), indent=2, allow_nan=False)
    (out / f"{scenario}.json").write_text(text + "\n")
    table = Table("figure", "value", "unit", "bound", "holds", title=scenario, title_justify="left", box=None)
    for f in figures:
        holds = {True: "yes", False: "NO", None: ""}[f.holds]
        bound = "" if f.bound is None else f"{f.relation} {f.bound:g}"
        value = "not measured" if math.isnan(f.value) else f"{f.value:,.4g}" if f.value < 1e4 else f"{f.value:,.0f}"
        table.add_row(f.name, value, f.unit, bound, holds)
    Console().print(table)


def processor() -> str:
    """The name of the machine's processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
