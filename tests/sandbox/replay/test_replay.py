"""Public data as requests, and the comparison of the answers."""

import gzip
from pathlib import Path

import numpy as np
import orjson
import pytest

from model_training.data.click_log import read_log
from sandbox.replay.avazu import bid_request, read_impressions, write_click_log
from sandbox.replay.openrtb import attach, read_requests
from sandbox.replay.public_data import AVAZU, MissingDataError, data_file
from sandbox.replay.run import BidRequestReport, ReplayError, compare
from sandbox.replay.stream import Outcome
from streamer.features import Encoder, FeatureSpec

HEAD = (
    "id,click,hour,C1,banner_pos,site_id,site_domain,site_category,app_id,app_domain,app_category,device_id,"
    "device_ip,device_model,device_type,device_conn_type,C14,C15,C16,C17,C18,C19,C20,C21\n"
)
ROWS = (
    "10,1,14102107,1005,1,site-a,dom-a,cat-a,app-a,appdom-a,appcat-a,dev-a,ip-a,model-a,1,0,20362,320,50,2333,0,39,-1,157\n",
    "11,0,14102108,1005,0,site-b,dom-b,cat-b,app-a,appdom-a,appcat-a,dev-a,ip-b,model-b,1,2,15705,320,50,1722,0,35,-1,79\n",
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "avazu.csv.gz"
    path.write_bytes(gzip.compress((HEAD + "".join(ROWS)).encode()))
    return path


def test_a_row_is_a_request_with_the_shown_ad(log: Path) -> None:
    first, second = read_impressions(log)
    assert (first.row_id, first.clicked, second.row_id, second.clicked) == ("10", 1, "11", 0)
    assert second.timestamp_ms - first.timestamp_ms == 3_600_000
    request = orjson.loads(bid_request(first))
    assert request["request_id"] == "10"
    assert request["user"]["device_model"] == "model-a"
    assert request["context"]["hour_of_day"] == 7
    assert [ad["ad_id"] for ad in request["candidates"]] == ["20362"]


def test_every_path_of_the_spec_is_in_a_request(log: Path) -> None:
    """Every feature of the Avazu spec has a value in the data, and not the id of a missing one."""
    spec = FeatureSpec.from_yaml(Path("configs/features/avazu.yaml"))
    encoder = Encoder(spec)
    (first, _) = read_impressions(log)
    empty = encoder.encode_log([{}], [{"ad_id": "x"}], [1])[0]
    given = encoder.encode_log([first.request], [first.candidate], [1])[0]
    assert (given != empty).all()


def test_training_reads_the_click_log(log: Path, tmp_path: Path) -> None:
    impressions = list(read_impressions(log))
    write_click_log(impressions, tmp_path / "clicks.jsonl")
    logged = list(read_log(tmp_path / "clicks.jsonl"))
    assert [line.clicked for line in logged] == [[1], [0]]
    assert [line.request for line in logged] == [shown.request for shown in impressions]
    assert [line.candidates for line in logged] == [[shown.candidate] for shown in impressions]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b'{"id":"a", "x":1.10}\n', b'{"id":"a", "x":1.10,"candidates":[1]}'),
        (b"{ }", b'{"candidates":[1]}'),
        (b"[1]", b"[1]"),
        (b"nonsense", b"nonsense"),
    ],
)
def test_only_candidates_are_added(request_: bytes, expected: bytes) -> None:
    assert attach(request_, b"[1]") == expected


def test_blank_lines_are_no_requests(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(b'{"id":"a"}\n\n{"id":"b"}\n')
    requests = [orjson.loads(line) for line in read_requests((path, path), candidates=3)]
    assert [r["id"] for r in requests] == ["a", "b", "a", "b"]
    assert [ad["ad_id"] for ad in requests[0]["candidates"]] == ["ad-0", "ad-1", "ad-2"]


def test_a_replayed_request_has_no_tmax(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(b'{"id":"a","tmax":100}\n')
    (request,) = (orjson.loads(line) for line in read_requests((path,), candidates=1))
    assert {"id", "recorded_tmax", "candidates"} == request.keys()


def test_the_error_names_missing_data(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"stream_2days_23299.csv.gz does not exist: set CTR_DATA"):
        data_file(AVAZU, tmp_path)


def _scored(ctr: float, status: str = "ok") -> list[dict[str, object]]:
    return [{"status": status, "ctr": [ctr]}]


def test_scores_are_compared_row_by_row(log: Path) -> None:
    rows = list(read_impressions(log))
    offline = np.array([0.4, 0.2], np.float32)
    labels = np.array([1, 0], np.int8)

    same = compare(rows, Outcome({"10": _scored(0.4), "11": _scored(0.2)}), labels, offline, offline)
    assert same.healthy
    assert (same.rows, same.scored, same.streamed_auc, same.offline_auc) == (2, 2, 1.0, 1.0)
    swapped = compare(rows, Outcome({"10": _scored(0.2), "11": _scored(0.4)}), labels, offline, offline)
    assert not swapped.healthy
    assert swapped.max_difference == pytest.approx(0.2)
    assert swapped.streamed_auc == 0.0


@pytest.mark.parametrize("second", [[], _scored(0.2, "expired"), _scored(0.2) * 2])
def test_a_row_without_exactly_one_score_is_not_healthy(log: Path, second: list[dict[str, object]]) -> None:
    rows = list(read_impressions(log))[::-1] + list(read_impressions(log))[:1]
    offline, labels = np.array([0.2, 0.4, 0.4], np.float32), np.array([0, 1, 0], np.int8)
    outcome = Outcome({"10": _scored(0.4), "11": second})
    report = compare(rows, outcome, labels, offline, offline)
    assert (report.rows, report.scored, report.healthy) == (3, 2, False)


def test_no_scores_at_all_are_an_error(log: Path) -> None:
    labels = np.array([1, 0], np.int8)
    with pytest.raises(ReplayError, match="no row was scored"):
        compare(list(read_impressions(log)), Outcome(), labels, labels.astype(np.float32), labels.astype(np.float32))


def test_a_record_needs_exactly_one_answer_or_dead_letter() -> None:
    outcome = Outcome(
        answers={"one": _scored(0.1), "two": _scored(0.1) * 2, "both": _scored(0.1)},
        dead_letters={"dead": ["no id"], "both": ["no id"]},
    )
    assert outcome.unsettled(dict.fromkeys(["one", "two", "both", "dead", "none"])) == ["two", "both", "none"]
    assert outcome.settled == 4


@pytest.mark.parametrize(
    ("report", "healthy"),
    [
        (BidRequestReport(3, {"ok": 2}, 1, {"no id": 1}, ()), True),
        (BidRequestReport(3, {"ok": 2, "invalid": 1}, 0, {"candidates: empty": 1}, ()), True),
        (BidRequestReport(3, {"ok": 2}, 0, {}, ("line-2",)), False),
        (BidRequestReport(3, {"ok": 2, "invalid": 1}, 0, {"": 1}, ()), False),
    ],
)
def test_each_unscored_record_needs_a_reason(report: BidRequestReport, healthy: bool) -> None:
    assert report.healthy is healthy
