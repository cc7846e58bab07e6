"""Encodes rows of values as rows of ids and floats, by the same encoder as in serving."""

from collections.abc import Iterator, Sequence
from itertools import compress
from math import inf, isnan
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from model_training.data.identities import IdHasher
from model_training.preparation.collisions import VALUES, VALUES_ARROW, VALUES_TYPE, counted
from model_training.preparation.coverage import COUNTS, COUNTS_ARROW, COUNTS_TYPE, counts_of
from model_training.preparation.rows import KEY, LABEL, REASON, TIME_MS, WEIGHT, Reader, Rows, Served
from streamer.features import Bucketised, Cross, Encoder, FeatureSpec, Numeric
from streamer.features.consent import hidden
from streamer.features.hashing import to_float

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

IDS, FLOATS, NUMBERS, USER, REQUEST = "ids", "floats", "numbers", "user", "request"
"""Columns of encoded rows: the bytes of int32 [row_ids], the bytes of float32 [row_floats], one float64 for each of
`number_features` (NaN if the number is missing, infinity if it is not finite), and the bits of `Identities` as signed
integers. All are null if the row is dropped. `VALUES` and `COUNTS` have counts of values. `WEIGHT`
is null in all rows of a source without weights."""

_SCHEMA = (
    f"{KEY} string, {TIME_MS} bigint, {LABEL} int, {REASON} string,"
    f" {IDS} binary, {FLOATS} binary, {NUMBERS} array<double>, {USER} bigint, {REQUEST} bigint,"
    f" {VALUES} {VALUES_TYPE}, {COUNTS} {COUNTS_TYPE}, {WEIGHT} double"
)


def number_features(spec: FeatureSpec) -> tuple[Numeric | Bucketised, ...]:
    """The features that are numbers; a spec has statistics of them."""
    return tuple(feature for feature in spec.features if isinstance(feature, Numeric | Bucketised))


def encode(rows: Rows, spec: FeatureSpec) -> "DataFrame":
    """Encodes the rows; a dropped row keeps only its reason."""
    reader, text = rows.reader, spec.to_json()

    def task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return encoded_batches(batches, reader, FeatureSpec.from_json(text))

    return rows.frame.mapInArrow(task, _SCHEMA)


def encoded_batches(batches: Iterator[pa.RecordBatch], reader: Reader, spec: FeatureSpec) -> Iterator[pa.RecordBatch]:
    """Encodes batches of rows; each batch keeps its number of rows, with the dropped rows last."""
    encoder, hashed, numbers = Encoder(spec), IdHasher(), [feature.name for feature in number_features(spec)]
    of_user = [feature.name for feature in spec.features if not isinstance(feature, Cross) and feature.side == "user"]
    for batch in batches:
        usable = batch.column(REASON).is_null()
        given, dropped = batch.filter(usable), batch.filter(batch.column(REASON).is_valid())
        values = reader(given)
        good = [reason is None for reason in values.reasons]
        kept = given.filter(pa.array(good, pa.bool_()))
        n = kept.num_rows
        if isinstance(values, Served):
            ids, floats = values.ids[good], values.floats[good]
            raw = np.full((len(numbers), n), np.nan)  # the encoder's input is not in the log
            users: Sequence[object] = [None] * n
            counts = pa.nulls(n, VALUES_ARROW), pa.nulls(n, COUNTS_ARROW)
        else:
            by_feature = {name: list(compress(column, good)) for name, column in values.by_feature.items()}
            denied = list(compress(values.denied, good))
            for name in of_user if any(denied) else ():
                by_feature[name] = hidden(by_feature[name], denied)
            ids, floats = encoder.encode_table(by_feature, n)
            raw = np.array([list(map(_number, by_feature[name])) for name in numbers], dtype=np.float64)
            users = hidden(list(compress(values.users, good)), denied)
            finite = dict(zip(numbers, raw, strict=True))
            counts = counted(encoder, by_feature, n), counts_of(spec, by_feature, finite, n)
        whose = [hashed(users), hashed(list(compress(values.requests, good)))]
        columns = [_bytes(ids), _bytes(floats), _lists(raw.reshape(len(numbers), n).T)]
        yield _batch(kept, [None] * n, [*columns, *(pa.array(part.view(np.int64)) for part in whose), *counts])
        rejected = given.filter(pa.array([not g for g in good], pa.bool_()))
        yield _dropped(rejected, [reason for reason in values.reasons if reason is not None])
        yield _dropped(dropped, dropped.column(REASON).to_pylist())


def _number(value: object) -> float:
    number = to_float(value)
    return inf if isnan(number) and isinstance(value, float) else number


def _dropped(rows: pa.RecordBatch, reasons: Sequence[str]) -> pa.RecordBatch:
    kinds = (pa.binary(), pa.binary(), pa.list_(pa.float64()), pa.int64(), pa.int64(), VALUES_ARROW, COUNTS_ARROW)
    return _batch(rows, reasons, [pa.nulls(rows.num_rows, kind) for kind in kinds])


def _batch(rows: pa.RecordBatch, reasons: Sequence[str | None], encoded: Sequence[Any]) -> pa.RecordBatch:
    weights = rows.column(WEIGHT) if WEIGHT in rows.schema.names else pa.nulls(rows.num_rows, pa.float64())
    columns = [*(rows.column(name) for name in (KEY, TIME_MS, LABEL)), pa.array(reasons, pa.string()), *encoded]
    names = [KEY, TIME_MS, LABEL, REASON, IDS, FLOATS, NUMBERS, USER, REQUEST, VALUES, COUNTS, WEIGHT]
    return pa.RecordBatch.from_arrays([*columns, weights], names)


def _bytes(matrix: npt.NDArray[Any]) -> pa.Array:
    """The bytes of each row."""
    n, width = len(matrix), matrix.shape[1] * matrix.itemsize
    ends = pa.py_buffer(np.arange(n + 1, dtype=np.int32) * np.int32(width))
    return pa.Array.from_buffers(pa.binary(), n, [None, ends, pa.py_buffer(np.ascontiguousarray(matrix))])


def _lists(matrix: npt.NDArray[np.float64]) -> pa.Array:
    n, width = matrix.shape
    ends = pa.array(np.arange(n + 1, dtype=np.int32) * np.int32(width))
    return pa.ListArray.from_arrays(ends, pa.array(np.ascontiguousarray(matrix).ravel()))
