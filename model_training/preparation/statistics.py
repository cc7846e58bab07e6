"""A spec's statistics over the training rows: mean and deviation, or boundaries."""

from collections.abc import Mapping
from math import ceil, inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from pyspark.sql import functions as f

from model_training.errors import DataError
from model_training.preparation.encoding import NUMBERS, number_features
from model_training.preparation.rows import KEY, share_hash
from streamer.features import FeatureSpec, Numeric, SpecError
from streamer.types import F64

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

STATISTICS = "statistics.json"
SAMPLE_ROWS = 200_000
"""Statistics are those of about this many rows: the standard error of a mean is then 0.2 % of a deviation."""

_TAIL = 0.01


def observe(
    rows: "DataFrame", spec: FeatureSpec, *, quantiles: int, sample_rows: int = SAMPLE_ROWS
) -> dict[str, dict[str, Any]]:
    """Statistics of encoded rows, by feature name; the order of the rows changes no bit.

    `present`, `missing` and `not_finite` (NaN and infinity) count the values of all rows. The rest is of a sample of
    `sample_rows`, chosen by a hash of the key, if there are more. Statistics that a spec can use have the spec's keys.
    A numeric feature has `mean` and `std` as in `robust`, after log1p if the feature has `log`, and `clipped_share`. A
    bucketised feature has `boundaries` between `quantiles` of equal count, without duplicates. They are omitted if the
    values do not vary.

    Raises:
        DataError: a feature has values, but none of them is finite.
    """
    features = number_features(spec)
    if not features:
        return {}
    numbers = [f.nanvl(f.col(NUMBERS)[i], f.lit(None)) for i in range(len(features))]
    infinite = [f.count(f.when(f.abs(number) == inf, 1)) for number in numbers]
    total, *counts = rows.agg(f.count(f.lit(1)), *map(f.count, numbers), *infinite).first()
    sample = _sample(rows, total, sample_rows, len(features))
    found: dict[str, dict[str, Any]] = {}
    for feature, given, not_finite, column in zip(
        features, counts[: len(features)], counts[len(features) :], sample, strict=True
    ):
        if given and given == not_finite:
            raise DataError(
                f"feature {feature.name!r}: none of its {given:,} values in the training rows is finite: correct its"
                " expression, or the log"
            )
        found[feature.name] = {"present": given - not_finite, "missing": total - given, "not_finite": not_finite}
        values = np.sort(column[np.isfinite(column)])
        if isinstance(feature, Numeric):
            scaled = np.log1p(np.maximum(values, 0.0)) if feature.log else values
            found[feature.name] |= robust(scaled)
        elif len(boundaries := _boundaries(values, quantiles)) > 1:
            found[feature.name]["boundaries"] = boundaries
    return found


def robust(values: F64) -> dict[str, float]:
    """`mean` and `std` (of the population) of sorted values, with both ends clipped.

    The lowest 1 % of the values, at least one, count as the next higher value, the highest 1 % as the next lower one,
    so that one wrong value of 1e12 does not hide the others. `clipped_share` is the share of the values that this
    changes. If less than 1 % differ from all others, fewer are clipped. Nothing if the values do not vary.
    """
    n = len(values)
    if not n or values[0] == values[-1]:
        return {}
    tail = min(ceil(_TAIL * n), (n - 1) // 2)
    if values[tail] == values[n - 1 - tail]:
        below, above = np.searchsorted(values, values[tail]), np.searchsorted(values, values[tail], side="right")
        tail = max(int(below), n - int(above)) - 1
    low, high = values[tail], values[n - 1 - tail]
    clipped = np.clip(values, low, high)
    # Squares of the values may exceed a float.
    scale = max(abs(low), abs(high))
    mean, std = float(np.mean(clipped / scale) * scale), float(np.std(clipped / scale) * scale)
    share = float(np.mean((values < low) | (values > high)))
    return {"mean": mean, "std": std, "clipped_share": share} if std else {}


def _boundaries(values: F64, quantiles: int) -> list[float]:
    n = len(values)
    places = [max(ceil(n * q / quantiles), 1) - 1 for q in range(1, quantiles)] if n else []
    return sorted({float(values[place]) + 0.0 for place in places})


def _sample(rows: "DataFrame", total: int, sample_rows: int, width: int) -> F64:
    """The numbers of about `sample_rows` of the rows, float64 [width, n], in any order."""
    some = rows if total <= sample_rows else rows.where(share_hash("statistics", f.col(KEY)) < sample_rows / total)
    lists = some.select(NUMBERS).toArrow().column(0).combine_chunks()
    return np.asarray(lists.flatten(), dtype=np.float64).reshape(-1, width).T


def fitted(spec: FeatureSpec, statistics: Mapping[str, Mapping[str, Any]]) -> FeatureSpec:
    """The spec with the observed mean, deviation and boundaries; its hash is another one.

    Raises:
        DataError: there are statistics of a feature that the spec does not have, or a spec cannot hold them.
    """
    known = {feature.name for feature in number_features(spec)}
    unknown = [name for name in statistics if name not in known]
    if unknown:
        raise DataError(f"statistics of {unknown[0]!r}: spec {spec.name!r} has no such number")
    content = orjson.loads(spec.to_json())
    for feature in content["features"]:
        observed = statistics.get(feature["name"], {})
        feature |= {key: observed[key] for key in ("mean", "std", "boundaries") if key in observed}
    try:
        return FeatureSpec.from_mapping(content, f"spec {spec.name!r} with statistics")
    except SpecError as error:
        raise DataError(str(error)) from None


def write_statistics(path: Path, statistics: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes statistics as JSON.

    Raises:
        OSError: the file cannot be written.
    """
    path.write_bytes(orjson.dumps(statistics, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
