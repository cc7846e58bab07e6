"""The feature contract: `FeatureSpec` says what the features are, `Encoder` turns requests into matrices by it."""

from streamer.errors import SpecError
from streamer.features.encoder import Encoder
from streamer.features.layout import GROUPS, FloatColumn, IdColumns, Layout
from streamer.features.paths import column_getter, getter, parse_path
from streamer.features.served import ServedRows, decode_served, encode_served
from streamer.features.side import to_float
from streamer.features.spec import (
    Bucketised,
    Categorical,
    Cross,
    Feature,
    FeatureSpec,
    Group,
    MultiValued,
    Numeric,
)
from streamer.types import RequestPaths

__all__ = [
    "GROUPS",
    "Bucketised",
    "Categorical",
    "Cross",
    "Encoder",
    "Feature",
    "FeatureSpec",
    "FloatColumn",
    "Group",
    "IdColumns",
    "Layout",
    "MultiValued",
    "Numeric",
    "RequestPaths",
    "ServedRows",
    "SpecError",
    "column_getter",
    "decode_served",
    "encode_served",
    "getter",
    "parse_path",
    "to_float",
]
