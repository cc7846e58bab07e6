"""Sampled requests show which features have a value; a wrong path is logged once."""

from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any

import numpy as np
import orjson
import pytest
import structlog
from structlog.testing import capture_logs

from streamer.ads import FoundAds, TablePosition
from streamer.codec import Codec
from streamer.features import Encoder, FeatureSpec
from streamer.metrics import Metrics
from streamer.prepared_version import PreparedVersion
from streamer.rollout.coverage import CANDIDATES, FIRST, LOGGED, STEP, LiveCoverage
from streamer.settings.sections import CodecSettings
from streamer.types import BidRequest, ModelVersion, RequestPaths
from tests.streamer.specs import small_spec

Logs = list[MutableMapping[str, Any]]
COLUMNS = {"ad_id": [f"a{i}" for i in range(20)], "campaign": ["", "c"] * 10}
REQUEST = BidRequest("r", {"user": {"id": "u", "ages": 7}, "context": {}}, 20, columns=COLUMNS)
CODEC = Codec(CodecSettings(), RequestPaths(), frozenset(), frozenset())


def prepared(version: int) -> PreparedVersion:
    return PreparedVersion(ModelVersion("ctr", version), CODEC, Encoder(small_spec()))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def coverage(metrics: Metrics) -> LiveCoverage:
    return LiveCoverage(metrics, structlog.get_logger())


@pytest.fixture
def logs() -> Iterator[Logs]:
    with capture_logs() as found:
        yield found


def counts(metrics: Metrics, feature: str) -> tuple[float | None, float | None]:
    labels = {"model": "ctr", "feature": feature}
    sampled, found = (
        metrics.registry.get_sample_value(f"streamer_features_{name}_total", labels) for name in ("sampled", "present")
    )
    return sampled, found


def lines_of(logs: Logs, model: str) -> Logs:
    return [line for line in logs if line["event"] == "feature has no value" and line["model"] == model]


def test_the_first_requests_are_counted_and_later_one_of_many(metrics: Metrics, coverage: LiveCoverage) -> None:
    version = prepared(1)
    coverage.begin(version)
    assert counts(metrics, "user") == counts(metrics, "age") == (0, 0)
    for _ in range(FIRST + 3 * STEP):
        coverage.offer(version, REQUEST)
    assert counts(metrics, "user") == (FIRST + 3, FIRST + 3)
    assert counts(metrics, "age") == (FIRST + 3, 0)
    assert counts(metrics, "campaign") == ((FIRST + 3) * 7, (FIRST + 3) * 3)
    assert CANDIDATES >= 7


def test_a_feature_without_a_value_is_logged_once_for_each_version(coverage: LiveCoverage, logs: Logs) -> None:
    for version in (prepared(1), prepared(2)):
        for _ in range(FIRST - 1):
            coverage.offer(version, REQUEST)
        assert not [line for line in logs if line["model"] == str(version.version)]
        coverage.begin(version)  # it is promoted
        for _ in range(FIRST + 2 * STEP):
            coverage.offer(version, REQUEST)
    lines = [line for line in logs if line.get("feature") == "age"]
    assert [line["model"] for line in lines] == ["ctr/1", "ctr/2"]
    assert (lines[0]["event"], lines[0]["path"], lines[0]["side"]) == ("feature has no value", "user.age", "user")
    assert lines[0]["missing_features"] == len(lines_of(logs, "ctr/1"))
    assert not [line for line in logs if line.get("feature") == "user"]


def test_the_lines_of_many_features_have_a_bound(coverage: LiveCoverage, logs: Logs) -> None:
    features = [
        {"kind": "numeric", "name": f"f{i}", "path": f"user.f{i}", "side": "user", "deep": True}
        for i in range(LOGGED + 5)
    ]
    spec = FeatureSpec.model_validate({"name": "s", "embedding_dim": 2, "features": features})
    version = PreparedVersion(ModelVersion("ctr", 1), CODEC, Encoder(spec))
    for _ in range(FIRST):
        coverage.offer(version, REQUEST)
    assert [line["missing_features"] for line in lines_of(logs, "ctr/1")] == [LOGGED + 5] * LOGGED


def test_a_request_that_cannot_be_counted_is_no_error(metrics: Metrics, coverage: LiveCoverage, logs: Logs) -> None:
    version, odd = prepared(1), BidRequest("r", REQUEST.fields, 20, columns={"ad_id": "one"})
    for _ in range(2 * STEP + 1):
        coverage.offer(version, odd)
    assert [line["event"] for line in logs] == ["features not counted"]
    for _ in range(STEP):
        coverage.offer(version, REQUEST)
    assert counts(metrics, "user") == (1, 1)


def test_a_version_that_is_replaced_begins_again(metrics: Metrics, coverage: LiveCoverage) -> None:
    for _ in range(2):
        version = prepared(1)
        for _ in range(FIRST + 1):
            coverage.offer(version, REQUEST)
    assert counts(metrics, "user") == (2 * FIRST, 2 * FIRST)


def test_ads_by_id_have_the_values_of_the_request_and_of_the_table() -> None:
    encoder = Encoder(small_spec())
    form = encoder.row_form()

    class Table:
        def lookup(self, ad_ids: Sequence[str]) -> FoundAds:
            rows = form.encode([{"ad_id": ad_id, "campaign": "c"} for ad_id in ad_ids])
            known = np.array([ad_id != "unknown" for ad_id in ad_ids])
            return FoundAds(rows, known, TablePosition("ads", (0,)))

    by_id = encoder.with_ads(Table())
    ids = ["a", "unknown", "b"]
    columns = BidRequest("r", {}, 3, columns={"ad_id": ids, "bid": [1.0, None, None]})
    rows = [orjson.dumps({"ad_id": ad_id, **({"bid": 1.0} if ad_id == "a" else {})}) for ad_id in ids]
    for request in (columns, BidRequest("r", {}, 3, rows=rows)):
        by_id.encode(request)
        masks = by_id.present(request, 3)
        found = {f.name: mask for f, mask in zip(by_id.read_features, masks, strict=True)}
        assert found["user"] == [False]
        assert found["campaign"] == [True, False, True]
        assert found["bid"] == [True, False, False]
