"""One Spark session for all tests, and a log with every kind of feature and of invalid row."""

import gc
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest
import yaml

from model_training.preparation.session import spark_session
from streamer.features import FeatureSpec

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SPARK_LEAVES_SOCKETS = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

HOUR_MS = 3_600_000
ROWS = 400

# Few rows and many queries: less optimisation is faster.
_QUICK_START = (
    '--driver-java-options "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC" --conf spark.sql.codegen.wholeStage=false'
    " --conf spark.sql.adaptive.enabled=false pyspark-shell"
)

# Users who deny consent.
DENIED = [7, 23]

NUMBERS_SPEC = {
    "name": "prepared",
    "embedding_dim": 4,
    "consent": {"denied_by": [{"path": "user.id", "values": DENIED}]},
    "features": [
        {"name": "user", "path": "user.id", "side": "user", "kind": "categorical", "buckets": 50, "deep": True},
        {"name": "sex", "path": "user.sex", "side": "user", "kind": "categorical", "vocabulary": ["f", "m"],
         "deep": True},
        {"name": "tags", "path": "user.tags", "side": "user", "kind": "multi_valued", "buckets": 30, "max_values": 2,
         "wide": True, "deep": True},
        {"name": "age", "path": "user.age", "side": "user", "kind": "bucketised", "boundaries": [20, 40], "deep": True},
        {"name": "zone", "path": "context.zone", "side": "context", "kind": "categorical", "buckets": 20, "wide": True},
        {"name": "ad", "path": "ad_id", "side": "candidate", "kind": "categorical", "buckets": 60, "wide": True},
        {"name": "bid", "path": "price.bid", "side": "candidate", "kind": "numeric", "log": True, "wide": True},
        {"name": "zone_x_ad", "kind": "cross", "of": ["zone", "ad"], "buckets": 400, "wide": True},
        {"name": "tags_x_ad", "kind": "cross", "of": ["tags", "ad"], "buckets": 200, "wide": True},
    ],
}  # fmt: skip

TABLE_SOURCE: dict[str, object] = {
    "kind": "table",
    "format": "json",
    "label": "clicked",
    "time": "timestamp_millis(ts)",
    "key": "id",
    "user_id": "uid",
    "request_id": "concat(zone, ts)",
    "request": {
        "user.id": "uid",
        "user.sex": "profile.sex",
        "user.tags": "profile.tags",
        "user.age": "profile.age",
        "context.zone": "zone",
    },
    "candidate": {"ad_id": "ad", "price.bid": "bid"},
    "after_event": ["paid"],
}


@dataclass(frozen=True, slots=True)
class LogRow:
    """A valid row of the log: the bidder's request, and the outcome."""

    request: dict[str, object]
    candidate: dict[str, object]
    ts: int
    clicked: int


def log_row(i: int) -> LogRow:
    """The i-th row; every tenth row is a click, and an hour has eight rows."""
    profile: dict[str, object] = {"sex": ["f", "m", "x"][i % 3], "tags": ["a", "b", "c"][: i % 4]}
    if i % 7:
        profile["age"] = i % 60
    user = {"id": i % 40 if i % 5 else None, **profile}
    bid = None if i % 11 == 0 else i % 13 / 4
    return LogRow({"user": user, "context": {"zone": f"z{i % 9}"}}, {"ad_id": f"a{i % 17}", "price": {"bid": bid}},
                  (i // 8) * HOUR_MS, int(i % 10 == 0))  # fmt: skip


BAD_LINES = {
    "record cannot be parsed": b'{"id": "broken',
    "no label": b'{"id": "x1", "ts": 0, "uid": 1}',
    "label is neither 0 nor 1": b'{"id": "x2", "ts": 0, "clicked": 2}',
    "time is missing or unreadable": b'{"id": "x3", "clicked": 1}',
    "no key": b'{"ts": 0, "clicked": 1}',
}


def write_log(path: Path) -> Path:
    """The valid rows, not in order of time, and one invalid row of each kind."""
    lines = []
    for i in range(ROWS):
        row = log_row(i)
        user = row.request["user"]
        assert isinstance(user, dict)
        lines.append(
            orjson.dumps(
                {
                    "id": f"r{i}",
                    "ts": row.ts,
                    "clicked": row.clicked,
                    "paid": i,
                    "uid": user["id"],
                    "profile": {key: value for key, value in user.items() if key != "id"},
                    "zone": f"z{i % 9}",
                    "ad": row.candidate["ad_id"],
                    "bid": None if i % 11 == 0 else i % 13 / 4,
                }
            )
        )
    path.write_bytes(b"\n".join([*lines[::-1], *BAD_LINES.values()]) + b"\n")
    return path


def write_config(folder: Path, source: dict[str, object], **settings: object) -> Path:
    """A config beside its spec."""
    (folder / "spec.yaml").write_text(yaml.safe_dump(NUMBERS_SPEC), encoding="utf-8")
    path = folder / "prepare.yaml"
    path.write_text(yaml.safe_dump({"spec": "spec.yaml", "source": source, **settings}), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def numbers_spec() -> FeatureSpec:
    return FeatureSpec.from_mapping(NUMBERS_SPEC)


@pytest.fixture(scope="session")
def spark() -> "Iterator[SparkSession]":
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYSPARK_SUBMIT_ARGS", _QUICK_START)
        with spark_session("local[1]") as session:
            session.conf.set("spark.sql.shuffle.partitions", "1")
            yield session
    # PySpark leaves sockets to the garbage collector, whose warning would fail the next test.
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()
