"""The table of bounds, its verdicts, and the figures that it judges."""

import json
import math
import os
from pathlib import Path

import pytest

from benchmarks import changing_ads, latency, memory, stages, table_memory, tables_by_id, throughput
from benchmarks.__main__ import SCENARIOS
from benchmarks.bounds import TABLE, Limit, Line, bound_of, verdicts
from benchmarks.latency import PRIORITIES, PROGRAMS, Turn
from benchmarks.pages import replaced
from benchmarks.peers import scenario as peers
from benchmarks.programs import Run
from benchmarks.report import Figure, write
from benchmarks.summary import markdown, measured
from benchmarks.tables import BEGIN, END, MARKS, section

NAN = math.nan
SPEED = Limit("latency", "p99", "ms", "<=", 10.0)
RATIO = Limit("latency", "over_floor", "ratio", "<=", 1.2)


@pytest.mark.parametrize(
    ("values", "holds"),
    [
        ({"p99": 9.0, "over_floor": 2.0}, True),
        ({"p99": 14.0, "over_floor": 1.2}, True),
        ({"p99": 14.0, "over_floor": 1.3}, False),
        ({"p99": 14.0}, False),
        ({"p99": NAN}, None),
        ({}, None),
    ],
)
def test_a_line_with_an_alternative_holds_if_one_of_them_holds(values: dict[str, float], holds: bool | None) -> None:
    (found,) = verdicts({"latency": values}, [Line("p99", SPEED, RATIO)])
    assert found.holds is holds


def test_a_verdict_shows_value_and_bound() -> None:
    (found,) = verdicts({"latency": {"p99": 14.04, "over_floor": 1.204}}, [Line("p99", SPEED, RATIO)])
    assert (found.value, found.bound, found.verdict) == ("14.04 ms, 1.20", "≤ 10 ms or ≤ 1.2 ×", "MISSED")
    (small,) = verdicts({"m": {"lost": 0.00042}}, [Line("AUC lost", Limit("m", "lost", "", "<=", 0.0005))])
    assert (small.value, small.bound, small.verdict) == ("0.00042", "≤ 0.0005", "holds")


def test_bounds_are_those_of_the_table() -> None:
    assert bound_of("throughput", "rows_scorer_over_floor") == (">=", 0.9)
    assert bound_of("latency", "ahead_p99_over_floor") == ("<=", 1.2)
    assert bound_of("throughput", "rows_scorer_rate") == (None, None)


def run_of(cpu_ms: float, rate: float) -> Run:
    return Run(rate, cpu_ms, 100.0, {}, {"model_server": 1.5, "broker": 0.5})


def test_every_figure_of_the_table_is_one_of_its_scenario() -> None:
    """Of the scenarios whose figures need no other process."""
    runs = {"scorer": [run_of(1.0, 500.0)], "floor": [run_of(0.9, 520.0)], "naive": [run_of(5.0, 100.0)]}
    times = {"p50": 3.0, "p99": 8.0, "p999": 9.0}
    turns = {(how, name): [Turn(times, times, {"program": 2.0}, 0)] for how in PRIORITIES for name in PROGRAMS}
    by_id = {
        **{name: [run_of(0.7, 900.0)] for name in tables_by_id.PROGRAMS},
        "scorer_rows": [run_of(1.0, 500.0)],
        "naive": [run_of(4.0, 120.0)],
        "naive_rows": [run_of(5.0, 100.0)],
        "kafka_streams": [run_of(3.0, 250.0)],
    }
    figures = {
        "throughput": [f for layout in throughput.LAYOUTS for f in throughput.figures_of(layout, runs)],
        "latency": latency.figures_of(turns),
        "memory": memory.figures_of([100.0] * 20),
        "peers": peers.figures_of(runs | {"faust": [run_of(4.0, 200.0)]}),
        "tables": [
            *tables_by_id.figures_of(by_id),
            *table_memory.figures_of(table_memory.Measured(1000, 376, 475_000, 0.09, [0.2, 0.5], 475_000)),
            *changing_ads.figures_of({kind: [changing_ads.Turn(3.0, 8.0, 990.0, 0)] for kind in changing_ads.KINDS}),
        ],
    }
    figures["throughput"].append(Figure("scorer_resident", 100.0, "MB", *bound_of("throughput", "scorer_resident")))
    values = {name: {f.name: f.value for f in of} for name, of in figures.items()}
    found = [v for v in verdicts(values) if v.scenario in figures]
    assert [v.label for v in found if not v.holds] == []
    assert {v.scenario for v in found} == figures.keys()
    assert values["throughput"]["rows_naive_cpu_over_scorer"] == 5.0
    assert values["tables"]["scorer_over_best_peer"] == pytest.approx(3.6)
    assert values["tables"]["opening"] == 0.5
    assert values["throughput"]["columns_scorer_model_server_cpu"] == 1.5


def test_memory_is_compared_after_its_first_part() -> None:
    figures = {f.name: f for f in memory.figures_of([50.0] * 10 + [100.0] * 30 + [110.0] * 10)}
    assert figures["last_over_first"].value == pytest.approx(1.1)
    assert figures["last_over_first"].holds is False


def test_scenarios_of_the_table_exist() -> None:
    elsewhere = {"peers", "model_rows"}
    assert {line.limit.scenario for line in TABLE} - elsewhere <= set(SCENARIOS)


def test_a_value_of_an_earlier_run_has_its_age(tmp_path: Path) -> None:
    write("throughput", [Figure("rows_scorer_over_floor", 0.95, "ratio")], {}, tmp_path)
    written = (tmp_path / "throughput.json").stat().st_mtime
    values, ages = measured(tmp_path, written + 7200)
    assert ages == {"throughput": "2.0 h before"}
    text = markdown(verdicts(values), ages)
    assert "| capacity over the floor, rows | 0.95 (2.0 h before) | ≥ 0.9 × | holds |" in text
    assert text.count("not measured") == len(TABLE) - 1
    os.utime(tmp_path / "throughput.json", (written + 9000, written + 9000))
    assert measured(tmp_path, written + 7200)[1] == {}


def test_the_tables_of_the_page_have_the_measured_figures(tmp_path: Path) -> None:
    runs = {"scorer": [run_of(1.0, 500.0)], "floor": [run_of(0.9, 520.0)], "naive": [run_of(5.0, 100.0)]}
    times = {"p50": 3.0, "p99": 8.0, "p999": 9.0}
    cpu = {"program": 2.0, "model_server": 1.0, "broker": 0.7, "bidder_and_ranker": 0.6}
    turns = {(how, name): [Turn(times, times, cpu, 0)] for how in PRIORITIES for name in PROGRAMS}
    profile = stages.Profile({"decode": 100.0, "commit": 5.0}, 110.0)
    write("throughput", throughput.figures_of("rows", runs), {}, tmp_path)
    write("tables", tables_by_id.figures_of(dict.fromkeys(tables_by_id.PROGRAMS, runs["scorer"])), {}, tmp_path)
    write("latency", latency.figures_of(turns), {}, tmp_path)
    write("stages", stages.figures_of("rows", profile) + stages.figures_of("columns", profile), {}, tmp_path)
    contents = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    made = section(contents, {"cpu_by_stage": "CPU by stage"})
    assert "| capacity over naive, rows | 5.00 | ≥ 4.5 × | holds |" in made
    assert "| scorer | rows | 500 | 1.00 | 1.50 | 0.50 | 100 |" in made
    assert (
        "| scorer | rows | 500 | 1.00 | 1.50 | 0.50 | 100 |\n| floor | ids | 500 | 1.00 | 1.50 | 0.50 | 100 |" in made
    )
    assert "| kafka streams | ids | 500 |" in made
    assert "| floor | 100 ids | 500 |" in made
    assert "| floor | equals | 3.0, 8.0, 9.0 | 3.0, 8.0, 9.0 | 2.00 | 1.00 | 0.70 | 0.60 |" in made
    assert "| **sum** | 105 | 105 |\n| **whole**, without the sampler | 110 | 110 |" in made
    assert made.endswith("![CPU by stage](images/cpu_by_stage.png)")
    assert replaced(f"a\n{BEGIN}\nold\n{END}\nb", "new", MARKS) == f"a\n{BEGIN}\n\nnew\n\n{END}\nb"


def test_the_page_has_the_marks_of_its_tables() -> None:
    page = (Path(__file__).parents[2] / "docs/performance.md").read_text(encoding="utf-8")
    assert replaced(page, "new", MARKS) != page
