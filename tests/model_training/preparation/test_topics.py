"""Joins of bid requests, impressions and clicks: rows, labels, and counts of the rest."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import pytest

from model_training.config.preparation import PrepareConfig, SplitConfig
from model_training.data.coverage import read_coverage
from model_training.data.training_data import read_examples
from model_training.errors import DataError
from model_training.preparation.encoding import encoded_batches
from model_training.preparation.prepare import prepare
from model_training.preparation.rows import KEY, LABEL, REASON, TIME_MS
from model_training.preparation.statistics import STATISTICS
from model_training.preparation.topics import RequestReader, log_end, read_topics
from streamer.features import Encoder, FeatureSpec
from streamer.features.hashing import hash64
from streamer.features.served import encode_served
from streamer.types import BidRequest, ModelVersion
from tests.model_training.preparation.conftest import DENIED, SPARK_LEAVES_SOCKETS, write_config
from tests.streamer.schemas.validation import faults

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = SPARK_LEAVES_SOCKETS
WINDOW_S = 60
COLUMNS = {"ad_id": ["a1", "a2"], "price": {"bid": [1, 2]}}

REQUESTS: list[dict[str, Any]] = [
    {"request_id": "rows", "user": {"id": "u1", "tags": ["a"]}, "context": {"zone": "z"},
     "candidates": [{"ad_id": "a1", "price": {"bid": 1}}, {"ad_id": "a2"}]},
    {"request_id": "columns", "user": {"id": 7, "age": 30}, "candidates": COLUMNS},
    {"request_id": "columns", "user": {"id": 7, "age": 30}, "candidates": COLUMNS},
    {"user": {}},
    {"request_id": "reused", "user": {"id": 1}, "candidates": COLUMNS},
    {"request_id": "reused", "user": {"id": 2}, "candidates": COLUMNS},
]  # fmt: skip


def event(request_id: str, ad_id: str, second: float) -> dict[str, object]:
    return {"request_id": request_id, "ad_id": ad_id, "timestamp_ms": round(second * 1000)}


INCOMPLETE: list[dict[str, object]] = [
    {name: value for name, value in event("rows", "a1", 100).items() if name != left_out}
    for left_out in event("", "", 0)
]
IMPRESSIONS = [
    event("rows", "a2", 100),
    event("rows", "a2", 101),
    event("rows", "a1", 100),
    event("columns", "a2", 200),
    event("columns", "a1", 200),
    event("columns", "a9", 200),
    event("nobody", "a1", 200),
    event("rows", "a3", 990),
    *INCOMPLETE,
    event("reused", "a1", 200),
    event("columns", "ahead", 4e9),
]
CLICKS = [
    event("rows", "a2", 100),
    event("rows", "a2", 130),
    event("rows", "a1", 160.001),
    event("columns", "a2", 260),
    event("columns", "a1", 139.999),
    event("columns", "a9", 199.99),
    event("never", "a1", 199),
    event("rows", "a1", 1000),
    *INCOMPLETE,
    event("columns", "a1", 4e9),
]


@pytest.fixture
def config(tmp_path: Path) -> PrepareConfig:
    source: dict[str, object] = {"kind": "topics", "click_window_s": WINDOW_S}
    for name, lines in (("bid_requests", REQUESTS), ("impressions", IMPRESSIONS), ("clicks", CLICKS)):
        (tmp_path / name).write_bytes(b"\n".join(map(orjson.dumps, lines)) + b"\n")
        source[name] = [str(tmp_path / name)]
    return PrepareConfig.from_yaml(write_config(tmp_path, source))


def test_shown_ads_are_rows_and_clicks_in_the_window_are_labels(
    spark: "SparkSession", config: PrepareConfig, numbers_spec: FeatureSpec
) -> None:
    assert config.source.kind == "topics"
    found = read_topics(spark, config.source, numbers_spec)
    rows = {row[KEY]: (row[TIME_MS], row[LABEL], row[REASON]) for row in found.frame.collect()}
    assert rows == {
        "rows\ta2": (100_000, 1, None),
        "rows\ta1": (100_000, 0, None),
        "columns\ta2": (200_000, 1, None),
        "columns\ta1": (200_000, 0, None),
        "columns\ta9": (200_000, 1, None),
        "reused\ta1": (200_000, 0, "its request id has several different requests"),
        "columns\tahead": (4_000_000_000_000, 0, "time is after the end of the log"),
        "nobody\ta1": (200_000, 0, "impression of an unknown request"),
        "rows\ta3": (990_000, 0, "the click window was still open"),
        None: (None, None, "impression without request_id, ad_id or timestamp_ms"),
    }
    assert found.counts == {
        "clicks after the end of the log": 1,
        "clicks without an impression": 1,
        "clicks before their impression": 1,
        "clicks after the window": 2,
        "repeated clicks": 1,
        "clicks without request_id, ad_id or timestamp_ms": len(INCOMPLETE),
        "repeated impressions": 1,
        "repeated requests": 2,
        "requests without an id": 1,
    }


@pytest.mark.parametrize(("name", "events"), [("impression", IMPRESSIONS), ("click", CLICKS)])
def test_the_published_schema_rejects_the_events_that_are_dropped(name: str, events: list[dict[str, object]]) -> None:
    assert [event for event in events if faults(name, event)] == INCOMPLETE


FAR = 10**6


@pytest.mark.slow
def test_a_misspelt_path_gives_the_most_similar_path_of_the_requests(
    spark: "SparkSession", config: PrepareConfig, numbers_spec: FeatureSpec, tmp_path: Path
) -> None:
    misspelt = {"user.tags": "user.tag", "price.bid": "price.bids"}
    content = orjson.loads(numbers_spec.to_json())
    for scalar in (feature for feature in content["features"] if "path" in feature):
        scalar["path"] = misspelt.get(scalar["path"], scalar["path"])
    split = SplitConfig(train=1.0, validation=0.0, test=0.0)
    config = config.model_copy(update={"split": split, "max_dropped_share": 0.9})
    prepare(spark, config, FeatureSpec.from_mapping(content), tmp_path / "out")
    found = read_coverage(tmp_path / "out")
    assert {name: (each.share, each.similar) for name, each in found.items() if not each.present} == {
        "sex": (0, None),
        "tags": (0, "user.tags"),
        "age": (0, "user.age"),  # the only one, of a user who denies consent
        "bid": (0, "price.bid"),
    }
    assert (found["user"].seen, found["user"].present, found["zone"].present) == (4, 2, 2)


@pytest.mark.parametrize(
    ("counts", "end"),
    [
        ({}, None),
        ({1: 1, 5: 1}, 5),
        ({1: 99, FAR: 1}, 1),
        ({0: 1000, 1: 10, FAR: 9}, 1),
        # One in a hundred events has a wrong time; the times are spread over a year.
        (dict.fromkeys(range(50), 2000) | dict.fromkeys(range(FAR, 2 * FAR, 1000), 1), 49),
        # A log with an event in an hour: a step of a minute says nothing.
        (dict.fromkeys(range(0, 60 * 300, 60), 1), 60 * 299),
        (dict.fromkeys(range(0, 60 * 300, 60), 1) | {FAR: 1}, 60 * 299),
        ({-1: 60, 0: 60}, 0),
    ],
)
def test_clocks_that_are_ahead_do_not_move_the_end_of_the_log(counts: dict[int, int], end: int | None) -> None:
    assert log_end({number: (count, number) for number, count in counts.items()}) == end


@pytest.mark.parametrize(("request_at", "columns"), [(0, None), (1, COLUMNS)])
def test_the_ad_shown_is_encoded_as_the_scorer_encodes_it(
    numbers_spec: FeatureSpec, request_at: int, columns: Mapping[str, object] | None
) -> None:
    document = REQUESTS[request_at]
    candidates = document["candidates"]
    rows = None if columns else [orjson.dumps(candidate) for candidate in candidates]
    encoder = Encoder(numbers_spec)
    ids, floats = encoder.flat_rows(encoder.encode(BidRequest("r", document, 2, rows=rows, columns=columns)))
    text = orjson.dumps(document).decode()
    given = {KEY: ["1", "2", "3"], TIME_MS: [1, 2, 3], LABEL: [0, 1, 0], REASON: [None] * 3,
             "request": [text, text, "{"], "ad_id": ["a1", "a2", "a1"]}  # fmt: skip
    schema = pa.schema([(KEY, pa.string()), (TIME_MS, pa.int64()), (LABEL, pa.int32()), (REASON, pa.string()),
                        ("request", pa.string()), ("ad_id", pa.string())])  # fmt: skip
    batch = pa.RecordBatch.from_pydict(given, schema)
    reader = RequestReader(numbers_spec.to_json(), "user.id")
    encoded = [row for part in encoded_batches(iter([batch]), reader, numbers_spec) for row in part.to_pylist()]
    assert [row["ids"] for row in encoded] == [ids[0].tobytes(), ids[1].tobytes(), None]
    assert [row["floats"] for row in encoded] == [floats[0].tobytes(), floats[1].tobytes(), None]
    user = 0 if document["user"]["id"] in DENIED else hash64(str(document["user"]["id"]))
    whose = [None if row["user"] is None else (row["user"] % 2**64, row["request"] % 2**64) for row in encoded]
    assert whose == [(user, hash64(document["request_id"]))] * 2 + [None]
    assert [row["reason"] for row in encoded] == [None, None, "the ad shown is not among the request's candidates"]


def logged(document: Mapping[str, Any], encoder: Encoder, spec_hash: str, version: int = 9) -> bytes:
    """The scorer's feature-log line of a request."""
    candidates = document["candidates"]
    columns = candidates if isinstance(candidates, dict) else None
    rows = None if columns else [orjson.dumps(candidate) for candidate in candidates]
    encoded = encoder.encode(BidRequest(document["request_id"], document, 2, rows=rows, columns=columns))
    return encode_served(document["request_id"], spec_hash, ModelVersion("ctr", version), encoded)


@pytest.mark.slow
@pytest.mark.tensorflow
def test_rows_of_the_feature_log_equal_the_served_rows(
    spark: "SparkSession", numbers_spec: FeatureSpec, tmp_path: Path
) -> None:
    encoder, other = Encoder(numbers_spec), "0" * 16
    rows, columns = REQUESTS[:2]
    files: dict[str, list[bytes]] = {
        # Logged under two specs and by two versions: a record is read again after a switch of versions.
        "feature_log": [logged(rows | {"user": {}}, encoder, numbers_spec.hash, version=10)]
        + [logged(rows, encoder, spec_hash) for spec_hash in (other, numbers_spec.hash, other)]
        + [logged(columns, encoder, other), b'{"request_id": "broken"}'],
        "impressions": [
            orjson.dumps(event(request_id, ad_id, second))
            for request_id, ad_id, second in (
                ("rows", "a1", 100), ("rows", "a2", 200), ("rows", "a9", 200), ("columns", "a1", 200),
                ("broken", "a1", 200), ("not sampled", "a1", 200),
            )
        ],
        "clicks": [orjson.dumps(event(*click)) for click in (("rows", "a2", 230), ("long", "after", 1000))],
    }  # fmt: skip
    for name, lines in files.items():
        (tmp_path / name).write_bytes(b"\n".join(lines) + b"\n")
    source = {"kind": "topics", "click_window_s": WINDOW_S, **{name: [str(tmp_path / name)] for name in files}}
    split = {"validation_from": "1970-01-01T00:02:30Z"}
    file = write_config(tmp_path, source, split=split, shards=1, max_dropped_share=0.5)
    config = PrepareConfig.from_yaml(file)

    prepared = prepare(spark, config, numbers_spec, tmp_path / "out")

    assert prepared.dropped == {
        "impression of an unknown request": 1,
        "line of the feature log that cannot be read": 1,
        "logged by another feature spec": 1,
        "the ad shown is not among the request's candidates": 1,
    }
    candidates = [orjson.dumps(candidate) for candidate in rows["candidates"]]
    ids, floats = encoder.flat_rows(encoder.encode(BidRequest("rows", rows, 2, rows=candidates)))
    for name, at, clicked in (("train", 0, 0), ("validation", 1, 1)):
        examples = read_examples(tmp_path / "out", prepared.splits[name].records)  # type: ignore[index]
        assert examples.ids.tolist() == [ids[at].tolist()]
        assert examples.floats.tolist() == [floats[at].tolist()]
        assert examples.labels.tolist() == [clicked]
    assert orjson.loads((tmp_path / "out" / STATISTICS).read_bytes()) == {}

    (tmp_path / "feature_log").write_bytes(logged(rows, encoder, other))
    with pytest.raises(DataError, match=r"no row of the log can be used: .*3 × logged by another feature spec"):
        prepare(spark, config, numbers_spec, tmp_path / "out", overwrite=True)
