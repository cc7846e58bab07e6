"""Ads as they were at the requests: joins requests with the log of the ads' changes.

A compacted topic forgets, so the log has all changes of the topic. Each partition is a line of offsets, and a request
saw the changes below its position. An ad's last change below it is found by one sort of changes and requests together,
so its cost grows with their number, and not with their product.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
from pyspark.sql import Window
from pyspark.sql import functions as f

from model_training.errors import ConfigError, DataError
from streamer.features import Encoder, FeatureSpec, SpecError
from streamer.features.stored_rows import StoredRows

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

AD_ID, REQUEST_ID = "ad_id", "request_id"
POSITIONS, SENT_MS = "positions", "sent_ms"
"""Columns of requests: the next offset of each partition, bigint [partitions], or the time of the request in ms."""
STORED, FAULT = "stored", "fault"
"""Columns of joined ads: the JSON of the ad's last change, or null; why it is not known, or null."""

LOST = "the log of the ads' changes lacks some before the request, perhaps of this ad"
ENDED = "the log of the ads' changes ends before the request"
NO_POSITION = "the request has no answer with scores, so it is unknown how far the ads had been read"

_LINE, _PARTITION, _OFFSET, _TIMESTAMP = "value", "partition", "offset", "timestamp"
_AT, _IS_REQUEST, _NEXT, _CHANGE, _FOUND = "at", "is_request", "next", "change", "found"
_MARKER = 1  # offset of a transaction's marker, which no reader gets
_MAX_GAPS = 1000
_MAX_PARTITIONS = 4096
_CHANGES = f"{AD_ID} string, {_PARTITION} int, {_OFFSET} bigint, {_TIMESTAMP} bigint, {STORED} string, is_bad boolean"


@dataclass(frozen=True, slots=True)
class Extent:
    """The offsets that the log has, by partition.

    Attributes:
        ends: the offset after the last record.
        whole: the lowest offset that the log lacks; the end if it lacks none.
        gaps: the first offsets of gaps in which changes may be lost.
    """

    ends: tuple[int, ...]
    whole: tuple[int, ...]
    gaps: tuple[tuple[int, ...], ...]


class AdHistory:
    """The log of the ads' changes.

    Invariants: (1) an ad is that of its last change below the position; (2) a record that the scorer rejects is no
    change; (3) an ad whose last change the log may lack has a fault.
    """

    def __init__(self, spark: "SparkSession", paths: Sequence[str], spec: FeatureSpec) -> None:
        """Reads the extent of the log.

        Raises:
            ConfigError: models of this spec have no stored ads.
            DataError: a line is no change of an ad, or the log is not that of one topic.
        """
        try:
            Encoder(spec).row_form()
        except SpecError as error:
            raise ConfigError(f"source.ads: {error}") from None
        text = {name: f.get_json_object(_LINE, f"$.{name}") for name in ("key", _PARTITION, _OFFSET, _TIMESTAMP)}
        self._lines = spark.read.text(list(paths)).select(
            _LINE,
            text["key"].alias(AD_ID),
            text[_PARTITION].cast("int").alias(_PARTITION),
            *(text[name].cast("bigint").alias(name) for name in (_OFFSET, _TIMESTAMP)),
        )
        self._extent = _extent(self._lines)
        spec_json = spec.to_json()

        def task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            return changes(batches, FeatureSpec.from_json(spec_json))

        self._changes = self._lines.mapInArrow(task, _CHANGES)

    def bad_changes(self) -> int:
        """Number of records that are no ads: the former row stays, as in the scorer."""
        return int(self._changes.where("is_bad").select(_PARTITION, _OFFSET).distinct().count())

    def ads_of(self, requests: "DataFrame") -> "DataFrame":
        """The ads of requests as they were at them.

        Args:
            requests: `REQUEST_ID`, `AD_ID`, and `POSITIONS` or `SENT_MS`; no two rows have the same ids.

        Returns:
            `REQUEST_ID`, `AD_ID`, `STORED` and `FAULT` of each row.
        """
        by_time = SENT_MS in requests.columns
        if by_time:
            requests = requests.withColumn(POSITIONS, _constant(self._extent.ends, "array<bigint>"))
        of_ad = self._lines.select(AD_ID, _PARTITION).distinct()
        asked = requests.join(of_ad, AD_ID, "left").withColumn(_NEXT, _at(f.col(POSITIONS)))
        ids = [AD_ID, _PARTITION]
        order = Window.partitionBy(*ids).orderBy(_OFFSET)
        # Clocks of producers differ: in its partition a change is never earlier than the one before it.
        passed = f.max(_TIMESTAMP).over(order) if by_time else f.col(_OFFSET)
        changed = self._changes.where("not is_bad").select(
            *ids,
            passed.alias(_AT),
            f.lit(0).alias(_IS_REQUEST),
            f.struct(_OFFSET, _TIMESTAMP, STORED).alias(_CHANGE),
        )
        latest = f.col(SENT_MS) if by_time else f.col(_NEXT) - 1
        asked = asked.select(*ids, latest.alias(_AT), f.lit(1).alias(_IS_REQUEST), REQUEST_ID, _NEXT, POSITIONS)
        both = asked.unionByName(changed, allowMissingColumns=True)
        until = Window.partitionBy(*ids).orderBy(_AT, _IS_REQUEST, f.col(_CHANGE)[_OFFSET])
        until = until.rowsBetween(Window.unboundedPreceding, Window.currentRow)
        found = both.withColumn(_FOUND, f.last(_CHANGE, ignorenulls=True).over(until)).where(f"{_IS_REQUEST} = 1")
        # An ad has changes in two partitions only if partitions were added: the later change is that of today's.
        latest_of_all = f.max_by(f.col(_FOUND)[STORED], f.struct(f.col(_FOUND)[_TIMESTAMP], _PARTITION))
        fault = f.min(_fault(self._extent))
        return found.groupBy(REQUEST_ID, AD_ID).agg(latest_of_all.alias(STORED), fault.alias(FAULT))


def changes(batches: Iterator[pa.RecordBatch], spec: FeatureSpec) -> Iterator[pa.RecordBatch]:
    """The changes in lines of the log.

    The value of a line is the record's text, or the JSON in it; null deletes the ad. A record that the scorer rejects
    `is_bad`.
    """
    form = Encoder(spec).row_form()
    for batch in batches:
        stored: list[str | None] = []
        bad: list[bool] = []
        for key, line in zip(batch.column(AD_ID).to_pylist(), batch.column(_LINE).to_pylist(), strict=True):
            value = orjson.loads(line)["value"]
            text = value if value is None or isinstance(value, str) else orjson.dumps(value).decode()
            stored.append(text)
            bad.append(_is_bad(form, key, text))
        columns = [batch.column(name) for name in (AD_ID, _PARTITION, _OFFSET, _TIMESTAMP)]
        names = [AD_ID, _PARTITION, _OFFSET, _TIMESTAMP, STORED, "is_bad"]
        yield pa.RecordBatch.from_arrays([*columns, pa.array(stored, pa.string()), pa.array(bad, pa.bool_())], names)


def _is_bad(form: StoredRows, key: str | None, text: str | None) -> bool:
    if text is None:
        return not key
    try:
        form.document(None if key is None else key.encode(), text.encode())
    except ValueError:
        return True
    return False


def answered_positions(spark: "SparkSession", paths: Sequence[str]) -> "DataFrame":
    """`REQUEST_ID` and `POSITIONS` of the answers.

    Of several answers of a request, the one that has read least counts. An answer with scores and without positions is
    that of a scorer that had no topic of ads: it has read nothing.
    """
    text = {name: f.get_json_object(_LINE, f"$.{name}") for name in (REQUEST_ID, "status", "ads.positions")}
    positions = f.from_json(text["ads.positions"], "array<bigint>")
    nothing = f.when(text["status"].isin("ok", "partial"), f.array().cast("array<bigint>"))
    lines = spark.read.text(list(paths))
    lines = lines.select(text[REQUEST_ID].alias(REQUEST_ID), f.coalesce(positions, nothing).alias(POSITIONS))
    return lines.groupBy(REQUEST_ID).agg(f.min(POSITIONS).alias(POSITIONS))


def is_given(value: object) -> bool:
    """Whether a value of a request is used instead of that of the stored ad."""
    return not (value is None or value in ("", []) or value != value)  # noqa: PLR0124  NaN


def _extent(lines: "DataFrame") -> Extent:
    """The extent of a log.

    Compaction leaves gaps in what a reader finds at its start, but there each ad has one record, its last one: such a
    gap hides no change of an ad that has a record before it. A gap after an ad's second record is something else: lost
    lines, or a reader so late that compaction was faster.
    """
    is_change = f.array_contains(f.json_object_keys(_LINE), "value") & f.col(_TIMESTAMP).isNotNull()
    is_change &= (f.col(_OFFSET) >= 0) & f.col(_PARTITION).between(0, _MAX_PARTITIONS - 1)
    is_change = f.coalesce(is_change, f.lit(False))
    place = [f.when(is_change, f.col(name)).alias(name) for name in (_PARTITION, _OFFSET)]
    record = f.struct(AD_ID, _TIMESTAMP)
    records = lines.groupBy(*place).agg(
        f.min(AD_ID).alias(AD_ID),
        (f.min(record) != f.max(record)).alias("differs"),
        f.count(f.lit(1)).alias("lines"),
        f.min(f.when(~is_change, f.col(_LINE))).alias("example"),
    )
    before = Window.partitionBy(_PARTITION).orderBy(_OFFSET)
    has_record = f.lag(_OFFSET).over(Window.partitionBy(_PARTITION, AD_ID).orderBy(_OFFSET)).isNotNull()
    records = records.withColumn("again", has_record)
    records = records.withColumn("first", f.coalesce(f.lag(_OFFSET).over(before) + 1, f.lit(0)))
    was_again = f.max("again").over(before.rowsBetween(Window.unboundedPreceding, -1))
    records = records.withColumn("is_gap", was_again & (f.col(_OFFSET) - f.col("first") > _MARKER))
    found = records.groupBy(_PARTITION).agg(
        (f.max(_OFFSET) + 1).alias("end"),
        f.min(f.when(f.col(_OFFSET) > f.col("first"), f.col("first"))).alias("whole"),
        f.collect_list(f.when(f.col("is_gap"), f.col("first"))).alias("gaps"),
        f.min(f.when(f.col("differs"), f.col(_OFFSET))).alias("differs"),
        f.sum("lines").alias("lines"),
        f.min("example").alias("example"),
    )
    limited = found.withColumn("n", f.size("gaps")).withColumn("gaps", f.slice("gaps", 1, _MAX_GAPS))
    parts = {row[_PARTITION]: row for row in limited.collect()}
    if wrong := parts.pop(None, None):
        raise DataError(
            f"ads: {wrong['lines']:,} lines are no changes of ads, such as {wrong['example'][:80]!r}: each needs key,"
            " value, partition, offset and timestamp"
        )
    for partition, row in sorted(parts.items()):
        if row["differs"] is not None:
            raise DataError(
                f"ads: partition {partition} has two records of offset {row['differs']}: give the log of one topic,"
                " since its creation"
            )
        if row["n"] > _MAX_GAPS:
            raise DataError(
                f"ads: partition {partition} has {row['n']:,} gaps of offsets: give all files of the log, or start a"
                " new one at the beginning of the topic"
            )
    empty = {"end": 0, "whole": None, "gaps": ()}
    rows: list[Any] = [parts.get(partition, empty) for partition in range(max(parts, default=-1) + 1)]
    return Extent(
        tuple(row["end"] for row in rows),
        tuple(row["end"] if row["whole"] is None else row["whole"] for row in rows),
        tuple(tuple(row["gaps"]) for row in rows),
    )


def _fault(extent: Extent) -> "Column":
    """Why the last change of an ad in a partition is not known; null if it is known.

    An ad that the log never names may belong to any partition.
    """
    ends, whole = _constant(extent.ends, "array<bigint>"), _constant(extent.whole, "array<bigint>")
    gaps = f.get(_constant(extent.gaps, "array<array<bigint>>"), f.col(_PARTITION))
    next_offset, found = f.col(_NEXT), f.col(_FOUND)[_OFFSET]
    is_named = f.col(_PARTITION).isNotNull()
    is_late = f.when(is_named, next_offset > _at(ends) + _MARKER).otherwise(_any_beyond(ends, _MARKER))
    is_lost = f.when(is_named, next_offset > _at(whole)).otherwise(_any_beyond(whole, 0))
    in_gap = f.exists(gaps, lambda first: (first > found) & (first < next_offset))
    return (
        f.when(f.col(POSITIONS).isNull(), NO_POSITION)
        .when(is_late, ENDED)
        .when(f.when(found.isNull(), is_lost).otherwise(in_gap), LOST)
    )


def _any_beyond(limits: "Column", more: int) -> "Column":
    """Whether the position of any partition is more than `more` above its limit."""
    beyond = f.zip_with(
        POSITIONS, limits, lambda at, limit: f.coalesce(at, f.lit(0)) > f.coalesce(limit, f.lit(0)) + more
    )
    return f.exists(beyond, lambda is_beyond: is_beyond)


def _at(of_partitions: "Column") -> "Column":
    """The value of the row's partition; 0 of a partition that has none."""
    return f.coalesce(f.get(of_partitions, f.col(_PARTITION)), f.lit(0))


def _constant(values: object, kind: str) -> "Column":
    """One literal: as thousands of literals, a value for each partition would make a large plan."""
    return f.from_json(f.lit(json.dumps(values)), kind)
