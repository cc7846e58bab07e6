"""What counts as lost, repeated or wrong under faults, and that each scenario has its page."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import chaos
from sandbox.checker import Checker
from sandbox.ledger import Ledger
from sandbox.ranker import TrafficReport, report_of

REPORT = report_of(Checker(Ledger(), []), Ledger())


def _broken(report: TrafficReport, *, duplicates: bool = False) -> list[str]:
    return [figure.name for figure in chaos.delivered(report, duplicates=duplicates) if figure.holds is False]


@pytest.mark.parametrize(
    ("report", "broken"),
    [
        (replace(REPORT, requests_sent=5, answered=5), []),
        (replace(REPORT, requests_sent=5, answered=4, lost=1), ["lost"]),
        (replace(REPORT, duplicates=1), ["duplicates"]),
        (replace(REPORT, unknown=1), ["wrong"]),
        (replace(REPORT, wrong={"bad_json": 2}), ["wrong"]),
    ],
)
def test_one_fault_is_enough(report: TrafficReport, broken: list[str]) -> None:
    assert _broken(report) == broken


def test_duplicates_are_counted_but_allowed_at_least_once() -> None:
    report = replace(REPORT, duplicates=3)
    assert _broken(report, duplicates=True) == []
    assert [f.value for f in chaos.delivered(report, duplicates=True) if f.name == "duplicates"] == [3]


def test_the_page_names_every_scenario() -> None:
    page = Path("docs/reliability.md").read_text(encoding="utf-8")
    assert [name for name in chaos.SCENARIOS if f"`{name}`" not in page] == []
