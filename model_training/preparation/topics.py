"""Joins topics as JSON lines to labelled rows.

The topics are `impressions`, `clicks`, and `bid-requests` or `feature-log`. A row is an impression. It is a click if a
click came within the window after it. Candidates that were not shown are not rows, because it is not known whether they
would have been clicked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from pyspark.sql import functions as f

from model_training.config.preparation import TopicsSource
from model_training.preparation.ad_history import AD_ID as _AD
from model_training.preparation.ad_history import FAULT, SENT_MS, STORED, AdHistory, answered_positions, is_given
from model_training.preparation.ad_history import REQUEST_ID as _REQUEST_ID
from model_training.preparation.log_files import last_modified_ms
from model_training.preparation.rows import KEY, LABEL, REASON, TIME_MS, Reader, Rows, Served, Values, data_errors
from streamer.features import Cross, FeatureSpec, Layout
from streamer.features.consent import ConsentCheck
from streamer.features.paths import column_getter, getter
from streamer.features.served import OF_ANOTHER_SPEC, decode_served
from streamer.features.transforms import feature_column_getter, feature_getter
from streamer.types import BadRecord

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

_REQUEST = "request"
_RANK, _DISTINCT, _IS_AMBIGUOUS = "rank", "distinct", "is_ambiguous"
_NOT_A_CANDIDATE = "the ad shown is not among the request's candidates"
_UNKNOWN = "impression of an unknown request"
_OPEN = "the click window was still open"
_FEW_EVENTS, _USUAL_EVENTS, _USUAL_SHARE = 100, 20, 0.01
_SHOWN = [_REQUEST_ID, _AD]


@dataclass(frozen=True, slots=True)
class RequestReader:
    """Reads the values of user, context and the shown candidate from the JSON of requests.

    Candidates may be objects or columns, as in the scorer. With `has_ads` a value that the request does not give is
    that of the stored ad.
    """

    spec_json: str
    user_path: str | None = None
    has_ads: bool = False

    def __call__(self, batch: "pa.RecordBatch") -> Values:
        spec = FeatureSpec.from_json(self.spec_json)
        features = [feature for feature in spec.features if not isinstance(feature, Cross)]
        plan = [(f.side == "candidate", feature_getter(f), feature_column_getter(f)) for f in features]
        candidates_at, ad_id, ad_ids = (
            getter(spec.request.candidates),
            getter(spec.request.ad_id),
            column_getter(spec.request.ad_id),
        )
        consent = ConsentCheck(spec.denial_rules)
        columns: list[list[object]] = [[] for _ in features]
        request_id = getter(spec.request.request_id)
        user_id = None if self.user_path is None else getter(self.user_path)
        denied: list[bool] = []
        users: list[object] = []
        requests: list[object] = []
        reasons: list[str | None] = []
        texts, shown = (batch.column(name).to_pylist() for name in (_REQUEST, _AD))
        nothing = [None] * batch.num_rows
        stored, faults = (batch.column(name).to_pylist() if self.has_ads else nothing for name in (STORED, FAULT))
        for text, ad, stored_ad, fault in zip(texts, shown, stored, faults, strict=True):
            document, ad_document = _parsed(text), _parsed(stored_ad)
            denied.append(consent.denies(document))
            users.append(None if user_id is None else user_id(document))
            requests.append(request_id(document))
            candidates = candidates_at(document)
            by_column = isinstance(candidates, dict)
            known = ad_ids(candidates) if by_column else [ad_id(c) for c in _as_list(candidates)]
            at = known.index(ad) if isinstance(known, list) and ad in known else None
            reason = _NOT_A_CANDIDATE if at is None else None
            for values, (of_candidate, get, get_column) in zip(columns, plan, strict=True):
                if at is None:
                    value = None
                elif not of_candidate:
                    value = get(document)
                elif by_column:
                    column = get_column(candidates)
                    value = column[at] if isinstance(column, list) and at < len(column) else None
                else:
                    value = get(_as_list(candidates)[at])
                if of_candidate and at is not None and not is_given(value):
                    value, reason = (value if ad_document is None else get(ad_document)), fault
                values.append(value)
            reasons.append(reason)
        names = [feature.name for feature in features]
        return Values(dict(zip(names, columns, strict=True)), reasons, denied, users, requests)


@dataclass(frozen=True, slots=True)
class ServedReader:
    """Reads the row of the shown candidate from lines of the feature log."""

    spec_json: str

    def __call__(self, batch: "pa.RecordBatch") -> Served:
        layout = Layout(FeatureSpec.from_json(self.spec_json))
        n = batch.num_rows
        ids, floats = np.zeros((n, layout.row_ids), np.int32), np.zeros((n, layout.row_floats), np.float32)
        reasons: list[str | None] = [None] * n
        requests: list[object] = [None] * n
        for i, (line, ad) in enumerate(
            zip(batch.column(_REQUEST).to_pylist(), batch.column(_AD).to_pylist(), strict=True)
        ):
            served = decode_served(line, layout)
            if isinstance(served, BadRecord):
                reasons[i] = served.reason
            elif ad not in served.ad_ids:
                reasons[i] = _NOT_A_CANDIDATE
            else:
                requests[i] = served.request_id
                ids[i], floats[i] = served.flat_row(served.ad_ids.index(ad))
        return Served(ids, floats, reasons, requests)


def read_topics(spark: "SparkSession", source: TopicsSource, spec: FeatureSpec) -> Rows:
    """The impressions with their requests and their labels.

    Raises:
        DataError: the files cannot be read.
    """
    window_ms, skew_ms = (round(seconds * 1000) for seconds in (source.click_window_s, source.max_clock_skew_s))
    with data_errors("topics"):
        bids = _requests(spark, source, spec)
        shown, clicks = (_events(spark, paths) for paths in (source.impressions, source.clicks))
        ads = None if source.ads is None else AdHistory(spark, source.ads, spec)
        answers = None if source.answers is None else answered_positions(spark, source.answers)
    requests = bids.where(f.col(_REQUEST_ID).isNotNull()).groupBy(_REQUEST_ID)
    requests = requests.agg(
        f.min_by(_REQUEST, _RANK).alias(_REQUEST), (f.min(_DISTINCT) != f.max(_DISTINCT)).alias(_IS_AMBIGUOUS)
    )
    good = shown.where(_is_complete())
    first = good.groupBy(*_SHOWN).agg(f.min(TIME_MS).alias(TIME_MS))
    click = clicks.where(_is_complete()).withColumnRenamed(TIME_MS, "clicked_ms")
    # No event is later than the file that has it.
    written_ms = last_modified_ms(spark, [*shown.inputFiles(), *clicks.inputFiles()])
    times = good.select(TIME_MS).union(click.select("clicked_ms")).where(f.col(TIME_MS) <= written_ms + skew_ms)
    ends_ms = _log_end(times, skew_ms) or 0
    latest_ms = min(ends_ms, written_ms) + skew_ms
    after, is_late = f.col("clicked_ms") - f.col(TIME_MS), f.col("clicked_ms") > latest_ms
    in_time = ~is_late & (after >= -skew_ms) & (after <= window_ms)
    matched = click.join(first, _SHOWN, "left")
    valid = matched.where(in_time).groupBy(*_SHOWN).agg(f.count(f.lit(1)).alias("clicks"))
    reason = (
        f.when(f.col(_REQUEST).isNull(), _UNKNOWN)
        .when(f.col(_IS_AMBIGUOUS), "its request id has several different requests")
        .when(f.col(TIME_MS) > latest_ms, "time is after the end of the log")
        .when(f.col(TIME_MS) + window_ms > ends_ms, _OPEN)
    )
    rows = first.join(requests, _REQUEST_ID, "left").join(valid, _SHOWN, "left")
    of_ads = [] if ads is None else [STORED, FAULT]
    if ads is not None:
        rows = rows.join(ads.ads_of(_asked(rows) if answers is None else _answered(first, answers)), _SHOWN, "left")
    rows = rows.select(
        f.concat_ws("\t", _REQUEST_ID, _AD).alias(KEY),
        TIME_MS,
        f.col("clicks").isNotNull().cast("int").alias(LABEL),
        reason.alias(REASON),
        _REQUEST,
        _AD,
        *of_ads,
    )
    unreadable = shown.where(~_is_complete()).select(
        *(f.lit(None).cast(kind).alias(name) for name, kind in ((KEY, "string"), (TIME_MS, "bigint"), (LABEL, "int"))),
        f.lit("impression without request_id, ad_id or timestamp_ms").alias(REASON),
        *(f.lit(None).cast("string").alias(name) for name in (_REQUEST, _AD, *of_ads)),
    )
    counts = matched.agg(
        _count(is_late).alias("clicks after the end of the log"),
        _count(~is_late & f.col(TIME_MS).isNull()).alias("clicks without an impression"),
        _count(~is_late & (after < -skew_ms)).alias("clicks before their impression"),
        _count(~is_late & (after > window_ms)).alias("clicks after the window"),
        (_count(in_time) - f.count_distinct(f.when(in_time, f.struct(*_SHOWN)))).alias("repeated clicks"),
    )
    text, is_encoded = spec.to_json(), source.feature_log is not None
    reader: Reader = ServedReader(text) if is_encoded else RequestReader(text, source.user_id, ads is not None)
    return Rows(
        rows.union(unreadable),
        reader,
        {
            **counts.first().asDict(),
            "clicks without request_id, ad_id or timestamp_ms": clicks.where(~_is_complete()).count(),
            "repeated impressions": good.count() - first.count(),
            "repeated requests": bids.where(f.col(_REQUEST_ID).isNotNull()).count() - requests.count(),
            "requests without an id": bids.where(f.col(_REQUEST_ID).isNull()).count(),
            **({} if ads is None else {"changes of ads that are no ads": ads.bad_changes()}),
        },
        frozenset((_OPEN, _UNKNOWN, OF_ANOTHER_SPEC) if is_encoded else (_OPEN,)),
        None if is_encoded else bids.select(_REQUEST),
    )


def _answered(shown: "DataFrame", answers: "DataFrame") -> "DataFrame":
    """Shown ads with the positions of their requests' answers."""
    return shown.select(*_SHOWN).join(answers, _REQUEST_ID, "left")


def _asked(rows: "DataFrame") -> "DataFrame":
    """Shown ads with the times of their requests, or else of their impressions."""
    sent_ms = f.get_json_object(_REQUEST, "$.timestamp_ms").cast("bigint")
    return rows.select(*_SHOWN, f.coalesce(sent_ms, TIME_MS).alias(SENT_MS))


def _log_end(times: "DataFrame", step_ms: int) -> int | None:
    """`log_end` of the times in the only column."""
    at = f.col(times.columns[0])
    steps = times.groupBy(f.floor(at / step_ms)).agg(f.count(f.lit(1)), f.max(at))
    return log_end({row[0]: (row[1], row[2]) for row in steps.collect()})


def log_end(steps: Mapping[int, tuple[int, int]]) -> int | None:
    """The time of the log's last event, without clocks that are ahead; None without events.

    It is the last event of the last step with an ordinary number of events: two, and 1 % of those of a usual step. The
    steps are made longer until a usual one has 20. An end that is too early only counts more impressions as unfinished;
    one that is too late turns unfinished impressions into negatives. A hundred events are needed to know what is usual.

    Args:
        steps: by number of a step of time, its events and the time of the last one; steps without events are absent.
    """
    events = sum(count for count, _ in steps.values())
    if events < _FEW_EVENTS:
        return max((last for _, last in steps.values()), default=None)
    while (usual := sum(count * count for count, _ in steps.values()) / events) < _USUAL_EVENTS:
        longer: dict[int, tuple[int, int]] = {}
        for number, (count, last) in steps.items():
            other, other_last = longer.get(number // 2, (0, last))
            longer[number // 2] = count + other, max(last, other_last)
        steps = longer
    return max(last for count, last in steps.values() if count >= max(2, _USUAL_SHARE * usual))


def _requests(spark: "SparkSession", source: TopicsSource, spec: FeatureSpec) -> "DataFrame":
    """Id and JSON of each request or feature-log line; the one of the lowest rank is used.

    A request that was read twice has the same JSON. In the feature log it may have lines of several specs and versions:
    the wanted spec is first, then the lowest version, which was probably the first to answer. The text only decides
    between lines of one version.
    """
    text = f.col("value")
    if source.feature_log is None:
        path, rank, distinct = spec.request.request_id, f.struct(text), text
    else:
        foreign = f.coalesce(_text("$.spec_hash") != spec.hash, f.lit(True))
        version = _text("$.model.version").cast("bigint")
        path, rank, distinct = _REQUEST_ID, f.struct(foreign, version, text), f.lit("")
    lines = spark.read.text(list(source.bid_requests or source.feature_log or ()))
    return lines.select(
        _text(f"$.{path}").alias(_REQUEST_ID), text.alias(_REQUEST), rank.alias(_RANK), distinct.alias(_DISTINCT)
    )


def _events(spark: "SparkSession", paths: Sequence[str]) -> "DataFrame":
    return spark.read.text(list(paths)).select(
        _text("$.request_id").alias(_REQUEST_ID),
        _text("$.ad_id").alias(_AD),
        _text("$.timestamp_ms").cast("bigint").alias(TIME_MS),
    )


def _text(path: str) -> Any:
    return f.get_json_object("value", path)


def _is_complete() -> Any:
    return f.col(_REQUEST_ID).isNotNull() & f.col(_AD).isNotNull() & f.col(TIME_MS).isNotNull()


def _count(condition: Any) -> Any:
    return f.count(f.when(condition, 1))


def _parsed(text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
