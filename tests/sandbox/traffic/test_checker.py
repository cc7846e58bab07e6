"""Verdicts of the checker, and their counts in the report."""

from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest

from sandbox.traffic.report import report_of
from tests.sandbox.traffic.answers import CANDIDATES, MS, Bench, answer_to


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_correct_answer_is_counted_and_timed(bench: Bench) -> None:
    record = bench.ask(at=5.0)
    assert bench.checker.check(orjson.dumps(answer_to(record)), 5.25) == "right"
    report = report_of(bench.checker, bench.sent_requests)
    assert report.clean
    assert (report.requests_sent, report.answered, report.lost) == (1, 1, 0)
    assert report.statuses == {"ok": 1}
    assert report.sources == {"model": CANDIDATES - 1, "cache": 1, "prior": 0}
    assert report.models == {"wdl/3": 1}
    assert report.times.latency_ms.tolist() == [250.0]
    assert report.times.batch_rows.tolist() == [640.0]
    assert report.times.version.tolist() == [3.0]
    assert {stage: ms.tolist() for stage, ms in report.times.stage_ms.items()} == {k: [v] for k, v in MS.items()}


def test_an_answer_without_scores_is_correct_if_its_status_has_none(bench: Bench) -> None:
    for status in ("expired", "invalid"):
        answer = answer_to(
            bench.ask(), status=status, ad_id=..., ctr=..., source=..., ms=..., batch_rows=..., reason="r"
        )
        assert bench.checker.check(orjson.dumps(answer), 1.0) == "right"
    report = report_of(bench.checker, bench.sent_requests)
    assert report.statuses == {"expired": 1, "invalid": 1}
    assert report.reasons == {"r": 2}
    assert np.isnan(report.times.batch_rows).all()
    assert report.times.version.tolist() == [3.0, 3.0]
    assert report.samples == ()


@pytest.mark.parametrize(
    ("fault", "damage"),
    [
        ("bad_status", lambda a: {**a, "status": "fine"}),
        ("bad_status", lambda a: {**a, "status": ["ok"]}),
        ("bad_columns", lambda a: {**a, "ctr": None}),
        ("bad_columns", lambda a: {**a, "source": "model"}),
        ("bad_columns", lambda a: {**a, "status": "expired"}),
        ("wrong_count", lambda a: {**a, "ctr": a["ctr"][1:]}),
        ("wrong_count", lambda a: {**a, "ad_id": [], "ctr": [], "source": []}),
        ("wrong_count", lambda a: {**a, **{key: [*a[key], a[key][0]] for key in ("ad_id", "ctr", "source")}}),
        ("wrong_order", lambda a: {**a, "ad_id": a["ad_id"][::-1]}),
        ("wrong_ads", lambda a: {**a, "ad_id": [*a["ad_id"][1:], "ad-of-another"]}),
        ("wrong_ads", lambda a: {**a, "ad_id": [*a["ad_id"][1:], a["ad_id"][1]]}),
        ("wrong_ads", lambda a: {**a, "ad_id": [*a["ad_id"][1:], {}]}),
        ("not_a_probability", lambda a: {**a, "ctr": [*a["ctr"][1:], float("nan")]}),
        ("not_a_probability", lambda a: {**a, "ctr": [*a["ctr"][1:], 1.0001]}),
        ("not_a_probability", lambda a: {**a, "ctr": [*a["ctr"][1:], -1e-9]}),
        ("not_a_probability", lambda a: {**a, "ctr": [*a["ctr"][1:], "0.5"]}),
        ("not_a_probability", lambda a: {**a, "ctr": [*a["ctr"][1:], True]}),
        ("bad_source", lambda a: {**a, "source": [*a["source"][1:], "guess"]}),
        ("bad_source", lambda a: {**a, "source": [*a["source"][1:], "prior"]}),
    ],
)
def test_each_fault_is_found_and_named(
    bench: Bench, fault: str, damage: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    record = bench.ask()
    value = orjson.dumps(damage(answer_to(record)))
    assert bench.checker.check(value, 1.0) == fault
    report = report_of(bench.checker, bench.sent_requests)
    assert report.wrong == {fault: 1}
    assert (report.answered, report.lost) == (1, 0)
    assert not report.clean
    assert report.samples == ()
    assert record.request_id in report.examples[fault]


@pytest.mark.parametrize(
    "value",
    [b"", b"nothing", b'{"request_id":', b"[]", b'{"request_id": 5}', b'{"request_id": "r-0", "ctr": [NaN]}', b"\xff"],
)
def test_an_unreadable_answer_leaves_its_request_lost(bench: Bench, value: bytes) -> None:
    bench.ask()
    assert bench.checker.check(value, 1.0) == "bad_json"
    report = report_of(bench.checker, bench.sent_requests)
    assert (report.answered, report.lost, report.wrong) == (0, 1, {"bad_json": 1})


def test_duplicate_and_unknown_answers_are_counted_separately(bench: Bench) -> None:
    record = bench.ask()
    value = orjson.dumps(answer_to(record))
    unknown = orjson.dumps(answer_to(record, request_id="r-999"))
    assert [bench.checker.check(v, 1.0) for v in (unknown, value, value, value)] == [
        "unknown",
        "right",
        "duplicate",
        "duplicate",
    ]
    report = report_of(bench.checker, bench.sent_requests)
    assert (report.answered, report.unknown, report.duplicates, report.lost) == (1, 1, 2, 0)
    assert report.wrong == {}
    assert not report.clean


def test_a_partial_answer_may_hold_priors(bench: Bench) -> None:
    answer = answer_to(bench.ask(), status="partial", source=["prior"] * CANDIDATES, reason="late")
    assert bench.checker.check(orjson.dumps(answer), 1.0) == "right"
    assert bench.checker.sources["prior"] == CANDIDATES


def test_the_partition_is_that_of_the_origin(bench: Bench) -> None:
    origins = ({"topic": "bid-requests", "partition": 5, "offset": 1}, ..., {"partition": "five"})
    for origin in origins:
        assert bench.checker.check(orjson.dumps(answer_to(bench.ask(), origin=origin)), 1.0) == "right"
    assert bench.checker.times().partition.tolist() == [5, -1, -1]


def test_memory_is_bounded_and_keeps_the_latest_times() -> None:
    bench = Bench(samples=3, capacity=4)
    for i in range(10):
        bench.checker.check(orjson.dumps(answer_to(bench.ask(at=float(i)))), i + 0.001 * i)
    assert len(bench.checker.samples) == 3
    assert bench.checker.times().latency_ms == pytest.approx([6.0, 7.0, 8.0, 9.0])
