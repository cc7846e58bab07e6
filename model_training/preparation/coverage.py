"""Counts the rows in which each feature has a value, in the pass that counts the rows."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import orjson
import pyarrow as pa
from pyspark.sql import functions as f

from model_training.data.coverage import FeatureCoverage, feature_coverage
from streamer.features import FeatureSpec
from streamer.features.coverage import Paths, count_present, read_features
from streamer.features.paths import getter
from streamer.types import F64

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

COUNTS, COUNTS_TYPE, COUNTS_ARROW = "counts", "array<bigint>", pa.list_(pa.int64())
"""A column of encoded rows, null except in the first row of a batch: for each of `read_features`, its rows of the
batch with a value."""

_REQUESTS = 100


def counts_of(
    spec: FeatureSpec, values: Mapping[str, Sequence[object]], numbers: Mapping[str, F64], n: int
) -> pa.Array:
    """`COUNTS` of n rows, which are columns by feature name.

    Args:
        numbers: of the features that are numbers, NaN or infinity where the number is missing.
    """
    if not n:
        return pa.nulls(0, COUNTS_ARROW)
    found = [
        int(np.isfinite(numbers[feature.name]).sum())
        if feature.name in numbers
        else count_present(feature, values[feature.name])
        for feature in read_features(spec)
    ]
    first = pa.array([found], COUNTS_ARROW)
    return pa.concat_arrays([first, pa.nulls(n - 1, COUNTS_ARROW)])


def totals(spec: FeatureSpec) -> "list[Column]":
    """The sums of `COUNTS`, by feature."""
    return [f.sum(f.col(COUNTS)[i]) for i in range(len(read_features(spec)))]


def coverage(
    spec: FeatureSpec, rows: int, counts: Sequence[int | None], requests: "DataFrame | None"
) -> dict[str, FeatureCoverage]:
    """The coverage of each feature, by its name.

    Args:
        counts: for each of `read_features`, those of the `rows` rows with a value.
        requests: the JSON of requests in the only column; its paths are read if a feature never has a value.
    """
    known: dict[bool, Paths] | None = None
    found: dict[str, FeatureCoverage] = {}
    for feature, count in zip(read_features(spec), counts, strict=True):
        if not count and requests is not None and known is None:
            known = _paths(spec, requests)
        paths = None if known is None else known[feature.side == "candidate"]
        found[feature.name] = feature_coverage(feature, rows, count or 0, "rows", paths)
    return found


def _paths(spec: FeatureSpec, requests: "DataFrame") -> dict[bool, Paths]:
    """The paths of some requests, and those of their candidates."""
    known, candidates_at = {False: Paths(), True: Paths()}, getter(spec.request.candidates)
    for (text,) in requests.limit(_REQUESTS).collect():
        try:
            document = orjson.loads(text)
        except orjson.JSONDecodeError:
            continue
        candidates = candidates_at(document)
        known[False].look_at([document])
        known[True].look_at(candidates[:1] if isinstance(candidates, list) else [candidates])
    return known
