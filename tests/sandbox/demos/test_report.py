"""The report of the demo: figures in JSON, the summary, the picture."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from sandbox.demos.report import DemoReport, make_report, percentiles, plot
from sandbox.traffic.quality import Documents
from sandbox.traffic.recomputed import Recomputed
from sandbox.traffic.report import TrafficReport, report_of
from streamer.types import F32
from tests.sandbox.traffic.answers import CANDIDATES, Bench, answer_to
from tests.sandbox.world.small import small_world

NAMES = {
    "broker", "model_server", "protocol", "requests_sent", "answered", "lost", "duplicates", "wrong", "dead_lettered",
    "candidates_per_second", "scoring_ms", "end_to_end_ms", "batch_rows", "cache_hit_ratio", "model",
    "auc", "status", "ads", "settings",
}  # fmt: skip


def constant(_: Documents, candidates: Documents, __: list[int]) -> F32:
    return np.full(len(candidates), 0.1, dtype=np.float32)


@pytest.fixture
def traffic() -> TrafficReport:
    """60 requests within 3 s: two expired, one unanswered, one with a duplicate answer."""
    bench = Bench()
    for i in range(60):
        record = bench.ask(at=i / 20)
        expired = (
            {"status": "expired", "ad_id": ..., "ctr": ..., "source": ..., "batch_rows": ...} if i in {3, 4} else {}
        )
        value = orjson.dumps(answer_to(record, **expired))
        if i != 7:
            bench.checker.check(value, i / 20 + 0.02)
        if i == 9:
            bench.checker.check(value, i / 20 + 0.03)
    return report_of(bench.checker, bench.sent_requests, 0)


AGAIN = Recomputed(57, 1_140, 30, 2, 2e-8, 3, 0, ())


def report(traffic: TrafficReport, ads: Mapping[str, object] | None = None) -> DemoReport:
    settings = {"budget_ms": 30.0}
    return make_report(
        traffic,
        world=small_world(),
        baseline=constant,
        broker="kafka",
        model_server="stand-in",
        protocol="rest",
        seconds=3.0,
        cache_hit_ratio=0.05,
        ads=ads or {},
        settings=settings,
    )


def test_the_json_has_the_documented_names(traffic: TrafficReport) -> None:
    found = json.loads(json.dumps(report(traffic).as_json()))
    assert set(found) == NAMES
    assert (found["requests_sent"], found["answered"], found["lost"], found["duplicates"]) == (60, 59, 1, 1)
    assert found["status"] == {"ok": 57, "expired": 2}
    assert found["candidates_per_second"] == pytest.approx(57 * CANDIDATES / 3, abs=0.1)
    assert found["scoring_ms"] == {"p50": 1.0, "p99": 1.0, "p999": 1.0}
    assert found["end_to_end_ms"]["p50"] == pytest.approx(20.0)
    assert found["batch_rows"] == {"p50": 640.0, "p99": 640.0}
    assert found["model"] == {"name": "wdl", "version": 3}
    assert set(found["auc"]) == {"served", "bayes", "logistic_regression"}
    assert found["auc"]["logistic_regression"] == 0.5
    assert 0.6 < found["auc"]["bayes"] < 0.95


def test_it_is_healthy_only_if_each_request_has_one_correct_answer(traffic: TrafficReport) -> None:
    one = report(traffic)
    assert not one.healthy
    healthy = replace(one, lost=0, duplicates=0)
    assert healthy.healthy
    for fault in ({"lost": 1}, {"duplicates": 1}, {"wrong": 1}):
        assert not replace(healthy, **fault).healthy  # type: ignore[arg-type]


def test_the_summary_has_names_and_values(traffic: TrafficReport) -> None:
    lines = dict(report(traffic).summary())
    assert lines["broker"] == "Apache Kafka"
    assert lines["requests"] == "60 sent, 59 answered"
    assert lines["budget"] == "30 ms per request"
    assert "ok 57 (96.6%)" in lines["answers"]


def test_scores_that_differ_when_they_are_computed_again_are_wrong(traffic: TrafficReport) -> None:
    changes = {"changed": 9, "deleted": 1, "added": 2}
    one = report(traffic, {"changes": changes, "computed_again": asdict(AGAIN)})
    lines = dict(one.summary())
    assert lines["ads"] == "9 changed, 1 deleted, 2 added during the traffic"
    assert lines["scores computed again"] == "57 answers, 0 wrong, difference at most 2.0e-08"
    assert one.wrong == report(traffic).wrong
    wrong = report(traffic, {"changes": changes, "computed_again": asdict(replace(AGAIN, wrong=4))})
    assert wrong.wrong == one.wrong + 4


def test_percentiles_of_nothing_are_zero() -> None:
    assert percentiles(np.array([np.nan])) == {"p50": 0.0, "p99": 0.0, "p999": 0.0}


def test_the_picture_is_a_png(traffic: TrafficReport, tmp_path: Path) -> None:
    plot(traffic, tmp_path / "report.png")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
