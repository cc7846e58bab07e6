"""Requests without scores around an event, and the workers that a supervisor shows."""

import json
import math
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from benchmarks.chaos.excess import EventRun, Outcomes, Window, delayed_share, delivered_in_all, over_runs
from benchmarks.chaos.machines import Machine, NotSettledError, Worker, wait_until_settled
from sandbox.processes.scorer import ScorerError
from sandbox.traffic.checker import Checker
from sandbox.traffic.report import Deliveries, TrafficReport, WithoutAnswer, report_of
from sandbox.traffic.sent_requests import SentRequests
from tests.benchmarks.test_figures import times_of

EMPTY = report_of(Checker(SentRequests(), []), SentRequests())
CONTROL, EVENT = Window(0.0, 10.0), Window(10.0, 20.0)


def _report(answers: Sequence[tuple[float, int, str]], missing: Sequence[tuple[float, int]] = ()) -> TrafficReport:
    """Answers as (sent at, partition, status), requests without an answer as (sent at, partition)."""
    times = times_of([(sent, 5.0, status) for sent, _, status in answers], partitions=[p for _, p, _ in answers])
    without = WithoutAnswer(
        np.array([sent for sent, _ in missing], dtype=np.float64), np.array([p for _, p in missing], dtype=np.intp)
    )
    return replace(EMPTY, times=times, without_answer=without)


def test_every_status_but_ok_and_every_missing_answer_counts() -> None:
    statuses = ("ok", "partial", "fallback", "expired", "invalid")
    report = _report([(11.0 + i, 0, status) for i, status in enumerate(statuses)], missing=[(12.5, 1)])
    outcomes = Outcomes.of(report)
    assert outcomes.within(EVENT).not_ok == 5
    assert outcomes.within(EVENT).ok_share == pytest.approx(1 / 6)
    assert outcomes.within(EVENT, [1]).not_ok == 1
    assert outcomes.within(CONTROL).not_ok == 0
    assert math.isnan(outcomes.within(CONTROL).ok_share)


def test_the_excess_is_that_over_the_control_window_and_ignores_the_warm_up() -> None:
    answers = [(-1.0, 0, "expired"), (0.0, 0, "fallback"), (9.99, 1, "ok"), (10.0, 0, "expired"), (11.0, 1, "expired")]
    run = EventRun(_report([*answers, (20.0, 0, "expired")], missing=[(12.0, 0)]), CONTROL, EVENT, affected=(0,))
    assert run.ok_share_of_control == 0.5
    assert run.excess() == 2
    assert run.excess(run.affected) == 1
    assert run.others(2) == {1}
    assert run.excess(run.others(2)) == 1


def test_an_outage_is_the_excess_in_seconds_of_the_partitions_traffic() -> None:
    """Partition 0 has 2 requests/s, partition 1 has 1; partition 0 has no scores for 3 s."""
    halves = [i / 2 for i in range(40)]
    first = [(at, 0, "expired" if 12 <= at < 15 else "ok") for at in halves]
    run = EventRun(_report(first + [(float(i), 1, "ok") for i in range(20)]), CONTROL, EVENT, affected=(0,))
    assert run.outage_s([0]) == pytest.approx(3.0)
    assert run.outage_s([1]) == 0.0
    assert math.isnan(run.outage_s([7]))


def test_the_median_of_the_runs_has_the_bound_and_every_run_is_a_figure() -> None:
    figures = over_runs("excess", [90, 10, 20], "requests", at_most=60)
    assert [(f.name, f.value, f.holds) for f in figures] == [
        ("excess", 20, True),
        ("excess_run_1", 90, None),
        ("excess_run_2", 10, None),
        ("excess_run_3", 20, None),
    ]
    assert over_runs("ok", [0.9, 0.5, 0.4], "ratio", at_least=0.85)[0].holds is False
    assert over_runs("excess", [1e9], "requests")[0].holds is None


def test_requests_that_the_brokers_stored_after_their_budget_are_counted_in_the_window() -> None:
    deliveries = Deliveries(np.array([9.0, 10.0, 11.0, 12.0, 13.0]), np.array([1.0, 0.1, 0.3, 0.2, 5.0]))
    report = replace(EMPTY, deliveries=deliveries)
    assert delayed_share(report, EVENT, 200.0) == 0.5
    assert math.isnan(delayed_share(EMPTY, EVENT, 200.0))


def test_one_lost_request_of_any_run_breaks_the_bound() -> None:
    reports = [replace(EMPTY, requests_sent=2, answered=2), replace(EMPTY, requests_sent=1, lost=1)]
    assert [f.name for f in delivered_in_all(reports, duplicates=True) if f.holds is False] == ["lost"]
    reports = [replace(EMPTY, dead_lettered=1, duplicates=1)]
    assert [f.name for f in delivered_in_all(reports, duplicates=True, healthy=True) if f.holds is False] == [
        "dead_lettered"
    ]
    assert [f.name for f in delivered_in_all(reports, duplicates=False) if f.holds is False] == ["duplicates"]


def _worker(number: int, state: str, partitions: Sequence[int] = ()) -> dict[str, object]:
    return {"worker": number, "pid": 100 + number, "state": state, "partitions": list(partitions)}


@dataclass
class FakeSupervisor:
    """Serves /workers; each call returns the next of `pages`, the last one again and again."""

    pages: list[list[dict[str, object]] | None]
    pid: int = 99
    signals: list[tuple[int, signal.Signals]] = field(default_factory=list)

    def get(self, path: str) -> str:
        assert path == "/workers"
        page = self.pages.pop(0) if len(self.pages) > 1 else self.pages[0]
        if page is None:
            raise ScorerError("/workers: status 0: connection refused")
        return json.dumps(page)

    def machine(self, workers: int, standby: int) -> Machine:
        return Machine(
            self,
            workers,
            standby,
            signal=lambda pid, number: self.signals.append((pid, number)),
            children=lambda _: [100, 101],
        )


def test_workers_are_read_from_the_page() -> None:
    page = [_worker(0, "active", [0, 2]), _worker(1, "standby"), {**_worker(2, "starting"), "pid": None}]
    machine = FakeSupervisor([page]).machine(1, 1)
    assert machine.workers()[0] == Worker(0, 100, "active", (0, 2))
    assert [worker.number for worker in machine.active()] == [0]
    assert machine.partitions() == {0, 2}
    assert machine.workers()[2].pid is None


@pytest.mark.parametrize(
    ("page", "settled"),
    [
        ([_worker(0, "active", [0]), _worker(1, "active", [1]), _worker(2, "standby")], True),
        ([_worker(0, "active", [0, 1]), _worker(1, "active"), _worker(2, "standby")], False),
        ([_worker(0, "active", [0]), _worker(1, "active", [1]), _worker(2, "starting")], False),
        ([_worker(0, "active", [0]), _worker(1, "draining", [1]), _worker(2, "standby")], False),
        ([_worker(0, "active", [0]), _worker(2, "standby")], False),
        (None, False),
    ],
)
def test_a_machine_is_settled_when_all_workers_have_their_place(
    page: list[dict[str, object]] | None, settled: bool
) -> None:
    assert (FakeSupervisor([page]).machine(2, 1).why_not_settled() is None) is settled


def test_it_waits_until_the_machines_have_all_partitions_once() -> None:
    first = FakeSupervisor([None, [_worker(0, "active", [0, 1])], [_worker(0, "active", [0])]])
    second = FakeSupervisor([[_worker(0, "active", [1])]])
    wait_until_settled([first.machine(1, 0), second.machine(1, 0)], 2, timeout_s=30.0)
    with pytest.raises(NotSettledError, match=r"partitions \[0, 1\]"):
        wait_until_settled([first.machine(1, 0), second.machine(1, 0)], 3, timeout_s=0.0)


def test_a_lost_machine_has_no_time_to_react() -> None:
    supervisor = FakeSupervisor([[]])
    supervisor.machine(1, 1).kill_all()
    assert supervisor.signals == [
        (99, signal.SIGSTOP),
        (100, signal.SIGKILL),
        (101, signal.SIGKILL),
        (99, signal.SIGKILL),
    ]
