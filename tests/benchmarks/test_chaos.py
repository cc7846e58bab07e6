"""Lost, duplicate and wrong answers under faults; every scenario is documented."""

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.chaos.__main__ import SCENARIOS, settings_of
from benchmarks.chaos.scene import Settings, delivered, last_unscored
from sandbox.traffic.checker import Checker
from sandbox.traffic.report import TrafficReport, report_of
from sandbox.traffic.sent_requests import SentRequests
from tests.benchmarks.test_figures import times_of

REPORT = report_of(Checker(SentRequests(), []), SentRequests())


def _broken(report: TrafficReport, *, duplicates: bool = False) -> list[str]:
    return [figure.name for figure in delivered(report, duplicates=duplicates) if figure.holds is False]


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
def test_one_fault_breaks_the_bound(report: TrafficReport, broken: list[str]) -> None:
    assert _broken(report) == broken


def test_duplicates_are_counted_but_allowed_at_least_once() -> None:
    report = replace(REPORT, duplicates=3)
    assert _broken(report, duplicates=True) == []
    assert [f.value for f in delivered(report, duplicates=True) if f.name == "duplicates"] == [3]


def test_recovery_lasts_until_the_last_unscored_request() -> None:
    times = times_of([(10.0, 5.0, "ok"), (11.0, 5.0, "fallback"), (13.5, 900.0, "partial"), (14.0, 5.0, "ok")])
    report = replace(REPORT, times=times)
    assert last_unscored(report, 12.0) == pytest.approx(1.5)
    assert last_unscored(report, 14.0) == 0.0
    assert last_unscored(REPORT, 1.0) == 0.0


def test_the_command_line_overrides_the_defaults_of_a_scenario() -> None:
    options = Namespace(
        rate=None, candidates=None, times=1, budget_ms=None, seed=None, seconds=9.0, guarantee="exactly_once"
    )
    found = {name: settings_of(options, SCENARIOS[name][1]) for name in ("worker_kill", "kill_one_of_two")}
    assert found["worker_kill"] == Settings(100.0, 100, 1, 9.0, 1000.0, "exactly_once")
    assert found["kill_one_of_two"] == Settings(100.0, 50, 1, 9.0, 200.0, "exactly_once")


def test_a_seed_repeats_one_plan_or_begins_a_run() -> None:
    options = Namespace(rate=None, candidates=None, budget_ms=None, seed=17, seconds=9.0, guarantee="at_least_once")
    for times, expected in ((None, 1), (30, 30)):
        found = settings_of(Namespace(**vars(options), times=times), SCENARIOS["plans"][1])
        assert (found.seed, found.times) == (17, expected)


def test_the_page_names_every_scenario() -> None:
    page = Path("docs/reliability.md").read_text(encoding="utf-8")
    assert [name for name in SCENARIOS if f"`{name}`" not in page] == []
