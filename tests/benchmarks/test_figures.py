"""The computation of figures, from constructed answers."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import orjson
import pytest

from benchmarks.figures import around_switch, faults, hit_ratio, ok_share, percentile, sent_at, under_load
from sandbox.traffic.checker import STATUSES, AnswerTimes
from sandbox.traffic.report import report_of
from tests.sandbox.traffic.answers import Bench, answer_to

NAN = float("nan")


def times_of(
    answers: Sequence[tuple[float, float, str]],
    *,
    versions: Sequence[float] = (),
    total_ms: Sequence[float] = (),
    rows: Sequence[float] = (),
    partitions: Sequence[int] = (),
) -> AnswerTimes:
    """Answers as (sent at, latency in ms, status)."""
    n = len(answers)
    sent, latency = (np.array([answer[i] for answer in answers], dtype=np.float64) for i in (0, 1))
    return AnswerTimes(
        received_at=sent + latency / 1e3,
        latency_ms=latency,
        batch_rows=np.array(rows or [300.0] * n),
        status=np.array([STATUSES.index(answer[2]) for answer in answers], dtype=np.intp),
        version=np.array(versions or [1.0] * n),
        partition=np.array(partitions or [0] * n, dtype=np.intp),
        stage_ms={"total": np.array(total_ms or [1.0] * n)},
        since_due_ms=latency,
    )


def test_goodput_counts_complete_answers_in_time() -> None:
    """One request per second for 10 s, budget 500 ms; the window is from second 2 to second 10."""
    answers = [(float(second), 100.0, "ok") for second in range(11)]
    answers[0] = (0.0, 400.0, "ok")  # before the window
    answers[3] = (3.0, 501.0, "ok")  # too late
    answers[4] = (4.0, 500.0, "ok")  # just in time
    answers[5] = (5.0, 10.0, "expired")
    answers[6] = (6.0, 10.0, "fallback")
    answers[7] = (7.0, 10.0, "partial")
    answers[10] = (10.0, 100.0, "ok")  # received after the last send
    seen = under_load(times_of(answers), 500.0, skip_s=2.0)
    assert seen.goodput == 4 / 8  # seconds 2, 4, 8, 9
    assert seen.offered == 9 / 8
    assert (seen.p50, seen.batch_rows) == (100.0, 300.0)
    assert 480.0 < seen.p99 <= 500.0


def test_batches_are_those_of_answers_in_time() -> None:
    answers = [(0.0, 10.0, "ok"), (1.0, 10.0, "ok"), (2.0, 900.0, "ok"), (3.0, 10.0, "ok"), (9.0, 10.0, "expired")]
    seen = under_load(times_of(answers, rows=[600, 1200, 5000, 0, NAN]), 500.0, skip_s=0.0)
    assert seen.batch_rows == 900.0


@pytest.mark.parametrize("answers", [[], [(1.0, 10.0, "ok")], [(1.0, 10.0, "ok"), (1.5, 10.0, "ok")]])
def test_too_little_traffic_gives_nan(answers: list[tuple[float, float, str]]) -> None:
    assert math.isnan(under_load(times_of(answers), 500.0, skip_s=1.0).goodput)


def test_without_an_answer_in_time_the_goodput_is_zero() -> None:
    seen = under_load(times_of([(float(i), 10.0, "expired") for i in range(5)]), 500.0, skip_s=1.0)
    assert seen.goodput == 0.0
    assert math.isnan(seen.p99)
    assert math.isnan(seen.batch_rows)


def test_the_share_of_ok_is_that_of_the_requests_sent_in_the_window() -> None:
    times = times_of([(0.9, 500.0, "fallback"), (1.1, 1.0, "ok"), (2.0, 9000.0, "ok"), (2.6, 1.0, "partial")])
    assert ok_share(times, 1.0, 3.0) == pytest.approx(2 / 3)
    assert ok_share(times, 1.0, 2.5) == 1.0
    assert math.isnan(ok_share(times, 5.0, 9.0))


def test_a_switch_is_split_at_the_limits_of_its_phases() -> None:
    """Answers at 0 … 39; folder at 10, AVAILABLE at 14; both versions answer from 16 to 21."""
    at = np.arange(40.0)
    total = np.full(40, 2.0)
    total[10:14] = 50.0
    total[16:22] = 3.0
    version = np.where(at < 16, 1.0, np.where(at > 21, 2.0, 2.0 - at % 2))
    times = times_of([(t, 0.0, "ok") for t in at.tolist()], versions=version.tolist(), total_ms=total.tolist())
    found = around_switch(times, 2, folder_at=10.0, available_at=14.0, margin_s=5.0)
    assert (found.before, found.loading) == (2.0, 50.0)
    assert (found.first_new, found.last_old, found.ramp_s) == (16.0, 21.0, 5.0)
    assert found.answers == (10, 16)  # 0 … 9, and 11 … 26
    assert found.around > 40.0  # the end of the loading is in it
    assert 2.9 < found.around_loaded <= 3.0


def test_an_immediate_switch_has_a_ramp_of_zero() -> None:
    times = times_of([(float(i), 0.0, "ok") for i in range(20)], versions=[1.0] * 10 + [2.0] * 10)
    found = around_switch(times, 2, folder_at=5.0, available_at=6.0, margin_s=2.0)
    assert (found.first_new, found.last_old, found.ramp_s) == (10.0, 9.0, 0.0)
    assert found.answers == (5, 5)  # 0 … 4, and 8 … 12


def test_a_missing_switch_gives_nan() -> None:
    times = times_of([(float(i), 0.0, "ok") for i in range(20)])
    found = around_switch(times, 2, folder_at=5.0, available_at=6.0)
    assert math.isnan(found.around)
    assert found.answers == (5, 0)


def test_percentiles_ignore_nan() -> None:
    assert percentile(np.array([1.0, NAN, 3.0]), 50) == 2.0
    assert math.isnan(percentile(np.array([NAN]), 50))


def test_the_send_time_follows_from_the_answer() -> None:
    assert sent_at(times_of([(3.0, 250.0, "ok")])).tolist() == pytest.approx([3.0])


def test_faults_and_hits_of_a_report() -> None:
    bench = Bench()
    records = [bench.ask() for _ in range(3)]
    bench.checker.check(orjson.dumps(answer_to(records[0])), 1.0)
    report = report_of(bench.checker, bench.sent_requests)
    assert faults(report) == 2
    assert hit_ratio(report) == 1 / 20
    bench.checker.check(orjson.dumps(answer_to(records[0])), 1.0)
    bench.checker.check(orjson.dumps(answer_to(records[1], ctr=None)), 1.0)
    report = report_of(bench.checker, bench.sent_requests)
    assert faults(report) == 3  # one lost, one duplicate, one wrong
    assert math.isnan(hit_ratio(replace(report, sources={})))
