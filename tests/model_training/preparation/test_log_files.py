"""Files of real logs: quotes, line breaks, other columns, other dialects; no line is lost without a count."""

import csv
import gzip
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

from model_training.config.preparation import TableSource
from model_training.errors import DataError
from model_training.preparation.encoding import encode
from model_training.preparation.log_files import header_line
from model_training.preparation.rows import KEY, LABEL, REASON
from model_training.preparation.table import read_table
from streamer.features import Encoder, FeatureSpec
from streamer.types import BidRequest
from tests.model_training.preparation.conftest import SPARK_LEAVES_SOCKETS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = SPARK_LEAVES_SOCKETS

HARD = ['say "hi"', "two\nlines", "plain", 'both "a"\r\nand b', "comma, here", "", "\\", 'ends with \\"']
GOOD = None
CORRUPT = "record cannot be parsed"


def source(*paths: Path, **changes: object) -> TableSource:
    request = {"user.id": "uid", "user.sex": "ua", "user.tags": "null", "user.age": "null", "context.zone": "null"}
    return TableSource.model_validate(
        {
            "kind": "table",
            "format": "csv",
            "paths": [str(path) for path in paths],
            "label": "clicked",
            "key": "id",
            "time": "timestamp_millis(cast(ts as bigint))",
            "request": request,
            "candidate": {"ad_id": "ad", "price.bid": "null"},
            **changes,
        }
    )


def found(spark: "SparkSession", table: TableSource, spec: FeatureSpec) -> list[tuple[str, object, object, object]]:
    """Key, label, reason and the user agent of each row."""
    rows = read_table(spark, table, spec).frame.collect()
    return [(row[KEY], row[LABEL], row[REASON], row["f1"]) for row in rows]


def test_the_header_is_the_first_line_with_content() -> None:
    assert header_line(b"\xef\xbb\xbfa,b\r\n1,2\r\n", b"") == b"a,b"
    assert header_line(b"\n# made by hand\na,b\n", b"#") == b"a,b"
    assert header_line(b"", b"") == header_line(b"\n \n", b"#") == b""


@pytest.mark.slow  # each line that an open quote swallows is a faster test of the dialect
def test_a_csv_of_the_usual_dialect_loses_no_row(
    spark: "SparkSession", numbers_spec: FeatureSpec, tmp_path: Path
) -> None:
    """Files with doubled quotes and line breaks, another order of columns, and one more column."""
    columns = ["id", "ts", "clicked", "uid", "ad", "ua"]
    orders = {"a.csv": columns, "b.csv.gz": columns[::-1], "c d[1].csv": [*columns[2:], "new", *columns[:2]]}
    expected = []
    for name, order in orders.items():
        with (gzip.open if name.endswith("gz") else open)(tmp_path / name, "wt", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, order, restval="n")
            writer.writeheader()
            for i in range(40):
                row = {"id": f"{name}{i}", "ts": i, "clicked": i % 2, "uid": i, "ad": "a", "ua": HARD[i % len(HARD)]}
                writer.writerow(row)
                expected.append((row["id"], i % 2, GOOD, HARD[i % len(HARD)].replace("\r\n", "\n") or None))
    (tmp_path / "empty.csv").touch()
    assert Counter(found(spark, source(tmp_path / "*.csv*"), numbers_spec)) == Counter(expected)


def test_each_line_that_an_open_quote_swallows_is_counted(
    spark: "SparkSession", numbers_spec: FeatureSpec, tmp_path: Path
) -> None:
    lines = ["id,ts,clicked,uid,ad,ua"] + [f"{i},0,0,{i},a,x" for i in range(9)]
    lines[3] = '2,0,0,2,a,"open'
    lines[7] = '6,0,0,6,a,"end" of the quote'
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    reasons = Counter(reason for _, _, reason, _ in found(spark, source(tmp_path / "log.csv"), numbers_spec))
    assert reasons[CORRUPT] >= 5
    assert reasons.total() == 9
    without_quotes = source(tmp_path / "log.csv", options={"quote": ""})
    assert [row[3] for row in found(spark, without_quotes, numbers_spec) if row[0] in ("2", "6")] == [
        '"open', '"end" of the quote'
    ]  # fmt: skip


@pytest.mark.slow
def test_a_file_without_a_used_column_is_named(
    spark: "SparkSession", numbers_spec: FeatureSpec, tmp_path: Path
) -> None:
    good = "id,ts,clicked,uid,ad,ua\n1,0,0,1,a,x\n"
    (tmp_path / "a.csv").write_text(good, encoding="utf-8")
    for text in (good.replace("uid", "user_id"), good.replace(",", ";")):
        (tmp_path / "b.csv").write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=r"b\.csv: has no column 'uid', which source\.request\.user\.id uses and"):
            read_table(spark, source(tmp_path / "*.csv"), numbers_spec)
    for i, columns in enumerate((["id", "uid"], ["uid", "id", "ts"])):
        values = [(1,) * len(columns)]
        spark.createDataFrame(values, columns).write.parquet(str(tmp_path / f"p{i}"))
    used = {"format": "parquet", "label": "id", "time": "timestamp_millis(ts)"}
    with pytest.raises(DataError, match=r"p0/part-.*: has no column 'ts', which source\.time uses and other files"):
        read_table(spark, source(tmp_path / "p0", tmp_path / "p1", **used), numbers_spec)


TYPES = {
    "cast(id as byte)": "7",
    "cast(id as short)": "7",
    "cast(id as int)": "7",
    "cast(id as long)": "7",
    "cast(0.1 as float)": "0.1",
    "cast(0.1 as double)": "0.1",
    "cast(1.50 as decimal(10,2))": "1.5",
    "cast(18446744073709551615 as decimal(20,0))": "18446744073709551615",
    "string(id)": '"7"',
    "id = 7": "true",
    "null": "null",
    "double('NaN')": "null",
    "float('inf')": "null",
    "array(cast(0.1 as float), null)": "[0.1, null]",
    "array(cast(1.5 as decimal(5,1)))": "[1.5]",
    "array()": "[]",
    "date_format(date'2014-10-22', 'yyyy-MM-dd')": '"2014-10-22"',
    "unix_millis(timestamp'1970-01-01 00:00:01')": "1000",
}
UNUSABLE = ("date'2014-10-22'", "timestamp'1970-01-01'", "map(1, 2)", "array(array(1))", "binary('x')")


@pytest.mark.slow
def test_each_type_of_spark_has_the_bits_of_its_json(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(b'{"id": 7, "ts": 0, "clicked": 1}\n')
    common = {"side": "candidate", "path": "x"}
    kinds = [
        {"kind": "categorical", "buckets": 10**6, "wide": True},
        {"kind": "multi_valued", "buckets": 10**6, "max_values": 2, "wide": True},
        {"kind": "bucketised", "boundaries": [0.1, 1], "wide": True},
        {"kind": "numeric", "missing_indicator": True, "wide": True},
    ]
    features = [
        {"name": f"f{i}_{kind['kind']}", **common, "path": f"x{i}", **kind} for i in range(len(TYPES)) for kind in kinds
    ]
    spec = FeatureSpec.from_mapping({"name": "types", "embedding_dim": 1, "features": features})
    candidate = {f"x{i}": expression for i, expression in enumerate(TYPES)}
    table = source(tmp_path / "log.jsonl", format="json", request={}, candidate=candidate)
    (row,) = encode(read_table(spark, table, spec), spec).collect()
    ad = orjson.loads("{" + ", ".join(f'"x{i}": {text}' for i, text in enumerate(TYPES.values())) + "}")
    encoder = Encoder(spec)
    ids, floats = encoder.flat_rows(encoder.encode(BidRequest("r", {}, 1, rows=[orjson.dumps(ad | {"ad_id": "a"})])))
    assert (row["ids"], row["floats"]) == (ids.tobytes(), floats.tobytes())
    for expression in UNUSABLE:
        table = source(tmp_path / "log.jsonl", format="json", request={}, candidate=candidate | {"x0": expression})
        with pytest.raises(Exception, match=r"source\.candidate\.x0: .* is of type .*; cast it to one of string, bool"):
            read_table(spark, table, spec)
