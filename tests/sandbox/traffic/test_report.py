"""Figures of each second."""

import numpy as np
import orjson
import pytest

from sandbox.traffic.checker import Checker
from sandbox.traffic.report import per_second
from sandbox.traffic.sent_requests import SentRequests
from tests.sandbox.traffic.answers import Bench, answer_to


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_figures_by_second(bench: Bench) -> None:
    for at, latency in ((10.0, 0.1), (10.2, 0.3), (12.0, 0.5)):
        bench.checker.check(orjson.dumps(answer_to(bench.ask(at=at))), at + latency)
    series = per_second(bench.checker.times())
    assert series.second.tolist() == [0, 1, 2]
    assert series.answers.tolist() == [2, 0, 1]
    assert series.p50_ms[0] == pytest.approx(200.0)
    assert series.p50_ms[2] == pytest.approx(500.0)
    assert np.isnan(series.p99_ms[1])
    assert series.batch_rows[2] == 640.0
    assert len(per_second(Checker(SentRequests(), ()).times()).second) == 0
