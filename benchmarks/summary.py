"""The end of a run: the table of bounds, the speed of the machine, overridden settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.bench import UNHURRIED, Options
from benchmarks.bounds import TABLE, Values, Verdict, verdicts
from benchmarks.report import Figure, values_of, write

REPORT = "report.md"


def measured(out: Path, since: float) -> tuple[dict[str, Values], dict[str, str]]:
    """The figures in the files of `out` by scenario, and the age of those from before `since`."""
    scenarios = {line.limit.scenario for line in TABLE}
    files = {name: out / f"{name}.json" for name in sorted(scenarios) if (out / f"{name}.json").exists()}
    ages = {
        name: f"{(since - at) / 3600:.1f} h before"
        for name, path in files.items()
        if (at := path.stat().st_mtime) < since
    }
    return {name: values_of(path) for name, path in files.items()}, ages


def markdown(found: Sequence[Verdict], ages: Mapping[str, str]) -> str:
    """The table of bounds for a page; a value from an earlier run has its age."""
    lines = ["| figure | value | bound | verdict |", "|---|---|---|---|"]
    lines += [f"| {v.label} | {v.value}{_aged(v, ages)} | {v.bound} | {v.verdict} |" for v in found]
    return "\n".join(lines) + "\n"


def summarise(
    console: Console, options: Options, model_server: str, loop_ms: tuple[float, float], started: float
) -> None:
    """Prints the summary; writes `machine.json` and `report.md`.

    `loop_ms`: the time of the fixed loop before and after the run. `started`: Unix seconds.
    """
    found, ages = measured(options.out, started)
    before, after = loop_ms
    speed = [Figure("loop_before", before, "ms"), Figure("loop_after", after, "ms")]
    naive = found.get("throughput", {}).get("rows_naive_cpu")
    if naive is not None:
        speed.append(Figure("naive_cpu_per_request", naive, "ms"))
    settings = {"model_server": model_server, "candidates": options.candidates, "overridden": dict(UNHURRIED)}
    write("machine", speed, settings, options.out)
    console.print(f"model server: {model_server}", markup=False)
    console.print("scorer: the demo's settings, with " + ", ".join(f"{k} = {v}" for k, v in UNHURRIED.items()))
    lines = verdicts(found)
    table = Table("figure", "value", "bound", "verdict", title="bounds", title_justify="left", box=None)
    for line in lines:
        table.add_row(line.label, line.value + _aged(line, ages), line.bound, line.verdict)
    console.print(table)
    if missing := sorted({line.scenario for line in lines if line.holds is None}):
        console.print(f'not measured: make bench SCENARIO="{" ".join(missing)}", or make bench-all')
    (options.out / REPORT).write_text(markdown(lines, ages), encoding="utf-8")
    console.print(f"as Markdown: {options.out / REPORT}")


def _aged(verdict: Verdict, ages: Mapping[str, str]) -> str:
    age = ages.get(verdict.scenario)
    return "" if age is None or verdict.holds is None else f" ({age})"
