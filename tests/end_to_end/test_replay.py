"""The public data sets through broker, model server and scorer."""

from pathlib import Path

import pytest
from rich.console import Console

from sandbox.broker.kafka import KafkaBroker
from sandbox.replay.public_data import AVAZU, BID_REQUESTS
from sandbox.replay.run import replay_avazu, replay_bid_requests
from tests.public_data import require_data

pytestmark = [pytest.mark.data, pytest.mark.kafka, pytest.mark.tensorflow, pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def _data() -> None:
    require_data(AVAZU, *BID_REQUESTS)


def test_streamed_avazu_scores_equal_the_offline_scores(kafka: KafkaBroker, tmp_path: Path) -> None:
    report = replay_avazu(Console(), tmp_path, broker=kafka)
    assert report.rows == round(23_299 * 0.2)
    assert report.scored == report.rows
    assert report.max_difference <= 1e-6
    assert abs(report.streamed_auc - report.offline_auc) <= 1e-5
    # Far from chance, and not below the baseline by more than two standard errors of an AUC on 701 clicks.
    assert report.streamed_auc > 0.65
    assert report.streamed_auc > report.logistic_regression_auc - 0.022
    assert report.healthy


def test_every_raw_bid_request_is_settled_once(kafka: KafkaBroker, tmp_path: Path) -> None:
    report = replay_bid_requests(Console(), tmp_path, broker=kafka)
    assert report.sent == 1_716
    assert report.unsettled == ()
    assert report.statuses["ok"] > 1_600
    assert sum(report.statuses.values()) + report.dead_letters == report.sent
    assert report.healthy
