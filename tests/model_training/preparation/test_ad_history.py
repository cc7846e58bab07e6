"""The ads of training rows are those of their requests: as they were then, not as they are now."""

import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import pytest

from model_training.config.preparation import PrepareConfig
from model_training.errors import DataError
from model_training.preparation.ad_history import ENDED, FAULT, LOST, NO_POSITION, STORED, AdHistory
from model_training.preparation.encoding import encoded_batches
from model_training.preparation.rows import KEY, LABEL, REASON, TIME_MS, Reader
from model_training.preparation.topics import RequestReader, read_topics
from streamer.features import Encoder, FeatureSpec, Layout
from streamer.features.served import ServedRows, decode_served, encode_served
from streamer.testing.ad_table import FakeAds
from streamer.types import BidRequest, ModelVersion
from tests.model_training.preparation.conftest import NUMBERS_SPEC, SPARK_LEAVES_SOCKETS, write_config

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = SPARK_LEAVES_SOCKETS

AD_FEATURES = [
    {"name": "sizes", "path": "sizes[*].w", "side": "candidate", "kind": "multi_valued", "buckets": 30,
     "max_values": 2, "deep": True},
    {"name": "quality", "path": "quality", "side": "candidate", "kind": "bucketised", "boundaries": [1, 2],
     "deep": True},
    {"name": "zone_x_sizes", "kind": "cross", "of": ["zone", "sizes"], "buckets": 200, "wide": True},
    {"name": "ad_x_sizes", "kind": "cross", "of": ["ad", "sizes"], "buckets": 200, "wide": True},
]  # fmt: skip
SPEC = FeatureSpec.from_mapping({**NUMBERS_SPEC, "features": [*NUMBERS_SPEC["features"], *AD_FEATURES]})  # type: ignore[misc]
HOUR_S = 3600


def ad(bid: float) -> dict[str, object]:
    return {"price": {"bid": bid}, "sizes": [{"w": bid}, {"w": 1}], "quality": bid % 3}


def change(key: str | None, value: object, partition: int, offset: int, second: int | None = None) -> dict[str, Any]:
    """A line of the log of changes; by default each partition has one in a second."""
    timestamp = 1000 * (offset if second is None else second)
    return {"key": key, "value": value, "partition": partition, "offset": offset, "timestamp": timestamp}


CHANGES = [
    # All of partition 0.
    change("changed", orjson.dumps(ad(1)).decode(), 0, 0),
    change("deleted", ad(2), 0, 1),
    change("changed", ad(3), 0, 2),
    change("deleted", None, 0, 3),
    change("added", ad(4), 0, 4),
    # The scorer rejects these records: the former row stays.
    change("changed", "not JSON", 0, 5),
    change("changed", {**ad(6), "ad_id": "other"}, 0, 6),
    change(None, ad(7), 0, 7),
    change("deleted", {**ad(8), "ad_id": "deleted"}, 0, 8),
    change("changed", ad(9), 0, 9),
    change("fast clock", ad(10), 0, 10, second=30),
    change("fast clock", ad(11), 0, 11, second=20),
    # The topic was compacted before the reader of partition 1 began; 11 is a transaction's marker; 13 and 14 are lost.
    change("compacted", ad(12), 1, 3),
    change("base", ad(13), 1, 5),
    change("base", ad(14), 1, 8),
    change("compacted", ad(15), 1, 9),
    change("hot", ad(16), 1, 10),
    change("hot", ad(17), 1, 12),
    change("hot", ad(18), 1, 15),
    # A sink that starts again writes some records twice.
    change("hot", ad(18), 1, 15),
]

# The ad, the position of its request, and the number of its ad; None for an unknown ad, or why it is not known.
AT_POSITIONS: list[tuple[str, Sequence[int] | None, float | str | None]] = [
    ("changed", [0, 0], None),
    ("changed", [], None),
    ("changed", [1, 0], 1),
    ("changed", [2, 0], 1),
    ("changed", [3, 0], 3),
    ("changed", [9, 0], 3),
    ("changed", [10, 0], 9),
    ("changed", [13, 0], 9),
    ("changed", [14, 0], ENDED),
    ("deleted", [3, 0], 2),
    ("deleted", [4, 0], None),
    ("deleted", [9, 0], 8),
    ("added", [4, 0], None),
    ("added", [5, 0], 4),
    ("nobody", [12, 0], None),
    ("nobody", [12, 1], LOST),
    ("nobody", [14, 0], ENDED),
    ("compacted", [0, 3], LOST),
    ("compacted", [0, 9], 12),
    ("base", [0, 8], 13),
    ("base", [0, 13], 14),
    ("base", [0, 14], LOST),
    ("hot", [0, 10], LOST),
    ("hot", [0, 12], 16),
    ("hot", [0, 13], 17),
    ("hot", [0, 16], 18),
    ("hot", None, NO_POSITION),
]

# The same, with times of requests in ms.
AT_TIMES: list[tuple[str, int, float | str | None]] = [
    ("changed", -1, None),
    ("changed", 0, 1),
    ("changed", 1999, 1),
    ("changed", 2000, 3),
    ("changed", 8999, 3),
    ("deleted", 2999, 2),
    ("deleted", 3000, None),
    ("added", 3999, None),
    ("fast clock", 29_999, None),
    ("fast clock", 30_000, 11),
    ("nobody", 5000, LOST),
    ("base", 7999, LOST),
    ("hot", 15_000, 18),
]


def write(path: Path, lines: Sequence[object]) -> list[str]:
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    return [str(path)]


def topics(
    folder: Path, requests: Sequence[dict[str, Any]], positions: Sequence[Sequence[int] | None], shown_ms: int = 0
) -> Any:
    """The source of requests, whose first ads are shown, and of their answers."""
    ids = [{"request_id": request["request_id"]} for request in requests]
    firsts = [request["candidates"] for request in requests]
    shown = [each["ad_id"][0] if isinstance(each, dict) else each[0]["ad_id"] for each in firsts]
    events = [{**each, "ad_id": first, "timestamp_ms": shown_ms} for each, first in zip(ids, shown, strict=True)]
    without = {"status": "ok"}  # a scorer without a topic of ads
    answers = [
        each if at is None else {**each, **({"ads": {"topic": "ads", "positions": at}} if at else without)}
        for each, at in zip(ids, positions, strict=True)
    ]
    files = {
        "bid_requests": requests,
        "ads": CHANGES,
        # A request that was read again has two answers.
        "answers": [
            *answers,
            {"request_id": requests[0]["request_id"], "ads": {"topic": "ads", "positions": [12, 12]}},
        ],
        "impressions": events,
        "clicks": [{**events[0], "timestamp_ms": 2 * HOUR_S * 1000}],
    }
    source: dict[str, object] = {
        "kind": "topics",
        **{name: write(folder / name, lines) for name, lines in files.items()},
    }
    return PrepareConfig.from_yaml(write_config(folder, source)).source


FORMS = 7


def request(i: int, ad_id: str) -> dict[str, Any]:
    """A request in one of `FORMS`: ids as a column or as rows, with or without values of the ads."""
    context = {"request_id": f"{i}", "user": {"id": i, "tags": ["a", "b"]}, "context": {"zone": f"z{i % 3}"}}
    forms: list[object] = [
        {"ad_id": [ad_id, "base"]},
        [{"ad_id": ad_id}, {"ad_id": "base"}],
        {"ad_id": [ad_id, "base"], "price": {"bid": [i, None]}},
        [{"ad_id": ad_id, "sizes": [{"w": i}], "quality": None, "price": {"bid": ""}}, {"ad_id": "base"}],
        {"ad_id": [ad_id, "base"], "quality": [0, 2], "sizes": [[], [{"w": 7}]]},
        [{"ad_id": ad_id, "price": {"bid": "no number"}, "sizes": [{"w": None}]}, {"ad_id": "base", "quality": False}],
        {"ad_id": [ad_id, "base"], "price": {"bid": [0, 1]}, "quality": [0, 1], "sizes": [[{"w": 1}], []]},
    ]
    return {**context, "candidates": forms[i % FORMS]}


def served(request: dict[str, Any], positions: Sequence[int]) -> tuple[bytes, bytes]:
    """The row of a request's first ad in the feature log, ids and floats, if its answer has these positions."""
    encoder = Encoder(SPEC)
    form = encoder.row_form()
    table = FakeAds(form)
    for each in CHANGES:
        partition, key, value = each["partition"], each["key"], each["value"]
        if partition >= len(positions) or each["offset"] >= positions[partition]:
            continue
        if value is None:
            table.delete(key)
            continue
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        with suppress(ValueError):
            table.put({key: form.document(key and key.encode(), text.encode())})
    candidates = request["candidates"]
    columns = candidates if isinstance(candidates, dict) else None
    rows = None if columns else list(map(orjson.dumps, candidates))
    encoded = encoder.with_ads(table).encode(BidRequest("", request, 2, rows=rows, columns=columns))
    line = encode_served(request["request_id"], SPEC.hash, ModelVersion("ctr", 1), encoded)
    logged = decode_served(line, Layout(SPEC))
    assert isinstance(logged, ServedRows)
    ids, floats = logged.flat_row(0)
    return ids.tobytes(), floats.tobytes()


def encoded_rows(batches: Sequence[pa.RecordBatch], reader: Reader) -> dict[str, dict[str, Any]]:
    return {row[KEY]: row for part in encoded_batches(iter(batches), reader, SPEC) for row in part.to_pylist()}


def joined(ad_id: str, stored: object, fault: str | None = None) -> dict[str, dict[str, Any]]:
    """The encoded rows of an ad that is shown after requests in all forms."""
    requests = [request(i, ad_id) for i in range(FORMS)]
    text = None if stored is None else orjson.dumps(stored).decode()
    columns = {
        KEY: [each["request_id"] for each in requests],
        TIME_MS: [0] * FORMS,
        LABEL: pa.array([0] * FORMS, pa.int32()),
        REASON: pa.nulls(FORMS, pa.string()),
        "request": list(map(orjson.dumps, requests)),
        "ad_id": [ad_id] * FORMS,
        STORED: pa.array([text] * FORMS, pa.string()),
        FAULT: pa.array([fault] * FORMS, pa.string()),
    }
    return encoded_rows([pa.RecordBatch.from_pydict(columns)], RequestReader(SPEC.to_json(), has_ads=True))


@pytest.mark.parametrize(("ad_id", "stored"), [("changed", ad(9)), ("base", ad(14)), ("nobody", None)])
def test_a_row_is_that_of_the_feature_log(ad_id: str, stored: object) -> None:
    rows = joined(ad_id, stored)
    for i in range(FORMS):
        row, expected = rows[f"{i}"], served(request(i, ad_id), [12, 13])
        assert (row["ids"], row["floats"]) == expected, request(i, ad_id)


def test_a_row_without_its_ad_stays_if_the_request_has_all_values() -> None:
    rows = joined("changed", None, LOST)
    reasons = [rows[f"{i}"]["reason"] for i in range(FORMS)]
    assert reasons == [LOST] * (FORMS - 1) + [None]
    assert (rows[f"{FORMS - 1}"]["ids"], rows[f"{FORMS - 1}"]["floats"]) == served(request(FORMS - 1, "changed"), [])


@pytest.mark.slow
def test_rows_of_topics_are_those_of_the_feature_log(spark: "SparkSession", tmp_path: Path) -> None:
    asked = [each for each in AT_POSITIONS for _ in range(2)]
    requests = [request(i, ad_id) for i, (ad_id, _, _) in enumerate(asked)]
    found = read_topics(spark, topics(tmp_path, requests, [positions for _, positions, _ in asked]), SPEC)
    assert found.counts["changes of ads that are no ads"] == 3
    rows = encoded_rows(found.frame.toArrow().to_batches(), found.reader)
    assert len(rows) == len(asked)
    for each, (ad_id, positions, outcome) in zip(requests, asked, strict=True):
        row = rows[f"{each['request_id']}\t{ad_id}"]
        if isinstance(outcome, str) and int(each["request_id"]) % FORMS != FORMS - 1:
            assert row["reason"] == outcome
        else:
            assert (row["ids"], row["floats"]) == served(each, positions or ()), (each, positions)


def outcomes(history: AdHistory, requests: "DataFrame") -> list[float | str | None]:
    """For each request, by the number that is its id: as in `AT_POSITIONS`."""
    found = {int(row["request_id"]): row for row in history.ads_of(requests).collect()}
    return [
        row["fault"] or (None if row["stored"] is None else orjson.loads(row["stored"])["price"]["bid"])
        for _, row in sorted(found.items())
    ]


def test_an_ad_is_that_of_the_position_of_the_answer(spark: "SparkSession", tmp_path: Path) -> None:
    history = AdHistory(spark, write(tmp_path / "ads", CHANGES), SPEC)
    rows = [(f"{i}", ad_id, positions) for i, (ad_id, positions, _) in enumerate(AT_POSITIONS)]
    frame = spark.createDataFrame(rows, "request_id string, ad_id string, positions array<bigint>")
    assert outcomes(history, frame) == [outcome for *_, outcome in AT_POSITIONS]


@pytest.mark.slow
def test_without_answers_an_ad_is_that_of_the_time_of_the_request(spark: "SparkSession", tmp_path: Path) -> None:
    history = AdHistory(spark, write(tmp_path / "ads", CHANGES), SPEC)
    rows = [(f"{i}", ad_id, time) for i, (ad_id, time, _) in enumerate(AT_TIMES)]
    frame = spark.createDataFrame(rows, "request_id string, ad_id string, sent_ms bigint")
    assert outcomes(history, frame) == [outcome for *_, outcome in AT_TIMES]


@pytest.mark.slow
def test_a_request_without_a_time_has_that_of_its_impression(spark: "SparkSession", tmp_path: Path) -> None:
    requests = [{**request(0, "changed"), "timestamp_ms": 2000}, request(1, "changed")]
    source = topics(tmp_path, requests, [None, None], shown_ms=9000).model_copy(update={"answers": None})
    frame = read_topics(spark, source, SPEC).frame
    bids = {row[KEY]: orjson.loads(row[STORED])["price"]["bid"] for row in frame.collect()}
    assert bids == {"0\tchanged": 3, "1\tchanged": 9}


def compacted(records: Sequence[dict[str, Any]], end: int, rng: random.Random) -> list[dict[str, Any]]:
    """A partition after compaction up to an offset: an ad's last record remains, also of some deleted ads."""
    last = {each["key"]: each["offset"] for each in records if each["offset"] < end}
    return [
        each
        for each in records
        if each["offset"] >= end
        or (each["offset"] == last[each["key"]] and (each["value"] is not None or rng.random() < 0.5))
    ]


@pytest.mark.slow
def test_an_ad_is_that_of_the_whole_topic_or_has_a_fault(spark: "SparkSession", tmp_path: Path) -> None:
    rng = random.Random(5)
    partitions: list[list[dict[str, Any]]] = [
        [
            change(
                f"{partition} {rng.choice(['hot', rng.randrange(60)])}", rng.choice([None, *[ad(i)] * 5]), partition, i
            )
            for i in range(120)
        ]
        for partition in range(3)
    ]
    # The reader of partition 1 began after a compaction, that of partition 2 was down while a part was compacted.
    whole, later, torn = partitions
    lost = [each for each in torn if not 60 <= each["offset"] < 80]
    log = write(tmp_path / "ads", [*whole, *compacted(later, 70, rng), *lost])
    names = sorted({each["key"] for part in partitions for each in part})
    cases = [(f"{i}", rng.choice(names), [rng.randrange(121) for _ in range(3)]) for i in range(600)]
    frame = spark.createDataFrame(cases, "request_id string, ad_id string, positions array<bigint>")
    found = outcomes(AdHistory(spark, log, SPEC), frame)
    known = [0, 0, 0]
    for (_, name, positions), outcome in zip(cases, found, strict=True):
        at = int(name[0])
        before = [each["value"] for each in partitions[at][: positions[at]] if each["key"] == name]
        if outcome != LOST:
            known[at] += 1
            assert outcome == (before[-1]["price"]["bid"] if before and before[-1] else None), (name, positions)
    asked = [sum(name[0] == f"{at}" for _, name, _ in cases) for at in range(3)]
    assert known[0] == asked[0]
    assert all(3 * known[at] > asked[at] for at in (1, 2)), (known, asked)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            [
                {"key": "a", "payload": "{}", "partition": 0, "offset": 0, "timestamp": 2},
                change("a", {}, 0, 1),
                {"key": "a"},
            ],
            "ads: 2 lines are no changes of ads, such as",
        ),
        ([change("a", {}, 0, 1), change("b", {}, 0, 1)], "ads: partition 0 has two records of offset 1"),
    ],
)
def test_a_log_that_is_not_that_of_one_topic_is_rejected(
    spark: "SparkSession", tmp_path: Path, lines: Sequence[object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        AdHistory(spark, write(tmp_path / "ads", lines), SPEC)
