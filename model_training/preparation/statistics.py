"""A spec's statistics over the training rows: mean and deviation, or boundaries."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from pyspark.sql import functions as f

from model_training.errors import DataError
from model_training.preparation.encoding import NUMBERS, number_features
from streamer.features import FeatureSpec, Numeric

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

STATISTICS = "statistics.json"
_ACCURACY = 100_000


def observe(rows: "DataFrame", spec: FeatureSpec, *, quantiles: int) -> dict[str, dict[str, Any]]:
    """Statistics of encoded rows, by feature name.

    `present` and `missing` count values. Statistics that a spec can use have the spec's keys. A numeric feature has
    `mean` and `std` (of the population, after log1p if the feature has `log`). A bucketised feature has `boundaries`
    between `quantiles` of equal count, without duplicates. They are omitted if the values do not vary.
    """
    features = number_features(spec)
    if not features:
        return {}
    wanted: list[Any] = [f.count(f.lit(1)).alias("rows")]
    for i, feature in enumerate(features):
        number = f.nanvl(f.col(NUMBERS)[i], f.lit(None).cast("double"))
        wanted.append(f.count(number).alias(f"count{i}"))
        if isinstance(feature, Numeric):
            scaled = f.log1p(f.greatest(number, f.lit(0.0))) if feature.log else number
            scaled = f.when(number.isNotNull(), scaled)  # greatest() ignores nulls
            wanted += [f.avg(scaled).alias(f"mean{i}"), f.stddev_pop(scaled).alias(f"std{i}")]
        else:
            parts = f.array(*(f.lit(q / quantiles) for q in range(1, quantiles)))
            wanted.append(f.percentile_approx(number, parts, _ACCURACY).alias(f"parts{i}"))
    row = rows.agg(*wanted).first()
    found: dict[str, dict[str, Any]] = {}
    for i, feature in enumerate(features):
        present = row[f"count{i}"]
        found[feature.name] = {"present": present, "missing": row["rows"] - present}
        if isinstance(feature, Numeric):
            if row[f"std{i}"]:
                found[feature.name] |= {"mean": row[f"mean{i}"], "std": row[f"std{i}"]}
        elif len(boundaries := sorted(set(row[f"parts{i}"] or ()))) > 1:
            found[feature.name]["boundaries"] = boundaries
    return found


def fitted(spec: FeatureSpec, statistics: Mapping[str, Mapping[str, Any]]) -> FeatureSpec:
    """The spec with the observed mean, deviation and boundaries; its hash is another one.

    Raises:
        DataError: there are statistics of a feature that the spec does not have.
    """
    known = {feature.name for feature in number_features(spec)}
    unknown = [name for name in statistics if name not in known]
    if unknown:
        raise DataError(f"statistics of {unknown[0]!r}: spec {spec.name!r} has no such number")
    content = orjson.loads(spec.to_json())
    for feature in content["features"]:
        observed = statistics.get(feature["name"], {})
        feature |= {key: observed[key] for key in ("mean", "std", "boundaries") if key in observed}
    return FeatureSpec.from_mapping(content, f"spec {spec.name!r} with statistics")


def write_statistics(path: Path, statistics: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes statistics as JSON.

    Raises:
        OSError: the file cannot be written.
    """
    path.write_bytes(orjson.dumps(statistics, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
