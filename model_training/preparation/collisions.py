"""Counts the values that share a bucket, exactly.

Spark writes to disk what does not fit in memory. Python's tasks count the values of a batch of rows, and its first row
carries these counts, so that a frequent value costs little.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyspark.sql import functions as f

from model_training.data.collisions import Collisions
from streamer.features import Cross, Encoder, FeatureSpec
from streamer.features.hashing import MISSING, PADDING
from streamer.features.kinds import Categorical, MultiValued

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

VALUES = "values"
"""A column of encoded rows: null except in the first row of a batch."""
VALUES_TYPE = "array<struct<feature: int, bucket: int, hash: bigint, rows: bigint>>"
VALUES_ARROW = pa.list_(
    pa.struct([("feature", pa.int32()), ("bucket", pa.int32()), ("hash", pa.int64()), ("rows", pa.int64())])
)
_NO_VALUES = np.array([MISSING, PADDING], dtype=np.uint64)


def buckets_of(spec: FeatureSpec) -> dict[str, int]:
    """The number of buckets for values, by the name of each hashed feature of the model."""
    return {
        feature.name: feature.buckets - isinstance(feature, Categorical)
        for feature in spec.features
        if isinstance(feature, Categorical | MultiValued | Cross) and feature.buckets and (feature.wide or feature.deep)
    }


def counted(encoder: Encoder, values: Mapping[str, Sequence[object]], n: int) -> pa.Array:
    """`VALUES` of n rows that are columns by feature name."""
    if not n:
        return pa.nulls(0, VALUES_ARROW)
    found, parts = encoder.value_hashes(values, n), []
    for index, (name, buckets) in enumerate(buckets_of(encoder.spec).items()):
        hashes, rows = np.unique(found[name], return_counts=True)
        is_value = ~np.isin(hashes, _NO_VALUES)
        hashes, rows = hashes[is_value], rows[is_value]
        parts.append((np.full(len(hashes), index), hashes % np.uint64(buckets), hashes.view(np.int64), rows))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)] if parts else [np.empty(0)] * 4
    kinds = [pa.int32(), pa.int32(), pa.int64(), pa.int64()]
    content = pa.StructArray.from_arrays(
        [pa.array(column.astype(kind.to_pandas_dtype())) for column, kind in zip(columns, kinds, strict=True)],
        fields=list(VALUES_ARROW.value_type),
    )
    first = pa.ListArray.from_arrays(pa.array([0, len(content)], pa.int32()), content)
    return pa.concat_arrays([first.cast(VALUES_ARROW), pa.nulls(n - 1, VALUES_ARROW)])


def collisions(rows: "DataFrame", spec: FeatureSpec) -> dict[str, Collisions]:
    """The collisions of each hashed feature in rows with the column `VALUES`."""
    of_value = (
        rows.select(f.explode(VALUES).alias("value"))
        .groupBy("value.feature", "value.bucket", "value.hash")
        .agg(f.sum("value.rows").alias("rows"))
    )
    of_bucket = of_value.groupBy("feature", "bucket").agg(
        f.count(f.lit(1)).alias("values"), f.sum("rows").alias("rows"), f.max("rows").alias("most")
    )
    is_shared = f.col("values") > 1
    of_feature = of_bucket.groupBy("feature").agg(
        f.sum("values").alias("values"),
        f.sum(f.when(is_shared, f.col("values")).otherwise(0)).alias("colliding_values"),
        f.sum("rows").alias("rows"),
        f.sum(f.when(is_shared, f.col("rows")).otherwise(0)).alias("colliding_rows"),
        f.sum(f.col("rows") - f.col("most")).alias("outnumbered_rows"),
    )
    found = {row["feature"]: row.asDict() for row in of_feature.collect()}
    none = dict.fromkeys(("values", "colliding_values", "rows", "colliding_rows", "outnumbered_rows"), 0)
    return {
        name: Collisions(buckets, **{key: found.get(index, none)[key] for key in none})
        for index, (name, buckets) in enumerate(buckets_of(spec).items())
    }
