"""The table of bounds of figures, and the verdicts. Pure."""

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Relation = Literal["<=", ">="]
Values = Mapping[str, float]
"""The figures of a scenario by name; a figure that was not measured is absent or NaN."""
HOLDS = {"<=": operator.le, ">=": operator.ge}
"""The comparison of each relation."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A figure of a scenario and what it must hold."""

    scenario: str
    figure: str
    unit: str
    relation: Relation
    limit: float

    def __str__(self) -> str:
        unit = {"ratio": " ×"}.get(self.unit, f" {self.unit}" if self.unit else "")
        return f"{'≤' if self.relation == '<=' else '≥'} {self.limit:g}{unit}"

    def value(self, measured: Mapping[str, Values]) -> float:
        """The measured value; NaN if it was not measured."""
        return measured.get(self.scenario, {}).get(self.figure, math.nan)

    def holds(self, measured: Mapping[str, Values]) -> bool | None:
        """Whether the value keeps the limit; None if it was not measured."""
        value = self.value(measured)
        return None if math.isnan(value) else bool(HOLDS[self.relation](value, self.limit))


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: it holds if `limit` holds, or `otherwise` on a slow machine."""

    label: str
    limit: Limit
    otherwise: Limit | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A line with its measured value, as texts; `holds` is None if nothing was measured."""

    label: str
    scenario: str
    value: str
    bound: str
    holds: bool | None

    @property
    def verdict(self) -> str:
        """`holds`, `MISSED` or `not measured`."""
        return {True: "holds", False: "MISSED", None: "not measured"}[self.holds]


def _ratio(scenario: str, figure: str, relation: Relation, limit: float) -> Limit:
    return Limit(scenario, figure, "ratio", relation, limit)


TABLE: tuple[Line, ...] = (
    Line("CPU per request, naive over scorer, rows", _ratio("throughput", "rows_naive_cpu_over_scorer", ">=", 4.5)),
    Line("the same, columns", _ratio("throughput", "columns_naive_cpu_over_scorer", ">=", 5.0)),
    Line("CPU per request, best peer over scorer, rows", _ratio("peers", "best_peer_cpu_over_scorer", ">=", 3.0)),
    Line("capacity over naive, rows", _ratio("throughput", "rows_scorer_over_naive", ">=", 4.5)),
    Line("capacity over the best peer, rows", _ratio("peers", "scorer_over_best_peer", ">=", 1.5)),
    Line("capacity over the floor, rows", _ratio("throughput", "rows_scorer_over_floor", ">=", 0.9)),
    Line(
        "scoring p99 at 145 requests/s, scorer and model server ahead",
        Limit("latency", "ahead_scorer_p99", "ms", "<=", 10.0),
        _ratio("latency", "ahead_p99_over_floor", "<=", 1.2),
    ),
    Line("scoring p99 over the floor's, all equal", _ratio("latency", "equals_p99_over_floor", "<=", 1.3)),
    Line(
        "resident memory of a worker, without cache, tables and memoised ads",
        Limit("throughput", "scorer_resident", "MB", "<=", 120.0),
    ),
    Line("the same, last over first part of 15 minutes", _ratio("memory", "last_over_first", "<=", 1.05)),
    Line("capacity with over without score cache, Zipf traffic", _ratio("cache", "zipf_on_over_off", ">=", 1.3)),
    Line("the same, traffic without repeats", _ratio("cache", "distinct_on_over_off", ">=", 0.95)),
    Line("CPU per request, two workers over one", _ratio("workers", "cpu_of_two_over_one", "<=", 1.05)),
    Line("capacity by ad ids over rows", _ratio("tables", "ids_over_rows", ">=", 1.5)),
    Line("capacity by ids over the best peer with a table", _ratio("tables", "scorer_over_best_peer", ">=", 3.0)),
    Line("CPU per request, naive, rows, over scorer, ids", _ratio("tables", "naive_rows_cpu_over_scorer", ">=", 6.5)),
    Line(
        "capacity with 100 candidates by id, or over the floor's",
        Limit("tables", "hundred_scorer_rate", "requests/s", ">=", 1308),
        _ratio("tables", "hundred_over_floor", ">=", 0.9),
    ),
    Line("scoring p99 while 1,000 ads/s change over without", _ratio("tables", "changing_p99_over_quiet", "<=", 1.2)),
    Line("CPU of a lookup of 300 ads of a million", Limit("tables", "lookup", "ms", "<=", 0.1)),
    Line(
        "memory of a table of a million ads, in four processes together",
        Limit("tables", "memory_of_four_processes", "MB", "<=", 1000),
    ),
    Line("another process opens that table", Limit("tables", "opening", "s", "<=", 2)),
    Line(
        "the first load of a million ads, until four workers are ready", Limit("catalogue", "first_load", "s", "<=", 60)
    ),
    Line(
        "start of a worker with that table, beyond one without ads",
        Limit("catalogue", "table_adds_to_start", "s", "<=", 2),
    ),
    *(
        Line(
            f"rows/s and core, bfloat16 over float32, {rows} rows, where the CPU has it",
            _ratio("model_rows", f"wide_deep_factored_{rows}_bfloat16_over_float32", ">=", 1.5),
        )
        for rows in (300, 1200)
    ),
    Line("AUC that bfloat16 loses, Wide & Deep", Limit("model_rows", "wide_deep_auc_lost", "", "<=", 0.0005)),
)


def bound_of(scenario: str, figure: str) -> tuple[Relation, float] | tuple[None, None]:
    """Relation and limit of a figure in the table; None for a figure without a bound."""
    for line in TABLE:
        for limit in (line.limit, line.otherwise):
            if limit is not None and (limit.scenario, limit.figure) == (scenario, figure):
                return limit.relation, limit.limit
    return None, None


def verdicts(measured: Mapping[str, Values], table: Sequence[Line] = TABLE) -> list[Verdict]:
    """The verdict of each line; `measured` has the figures by scenario."""
    return [_verdict(line, measured) for line in table]


def _verdict(line: Line, measured: Mapping[str, Values]) -> Verdict:
    limits = [line.limit] if line.otherwise is None else [line.limit, line.otherwise]
    held = [limit.holds(measured) for limit in limits]
    holds = True if True in held else False if False in held else None
    value = ", ".join(_shown(limit, limit.value(measured)) for limit in limits)
    return Verdict(line.label, line.limit.scenario, value, " or ".join(map(str, limits)), holds)


def _shown(limit: Limit, value: float) -> str:
    if math.isnan(value):
        return "–"
    value += 0.0  # never -0
    number = f"{value:.2g}" if limit.limit < 0.01 else f"{value:.2f}" if value < 100 else f"{value:.0f}"
    return number if limit.unit in ("ratio", "") else f"{number} {limit.unit}"
