"""The feature contract: `FeatureSpec` says what the features are, `Encoder` turns requests into matrices by it."""

from streamer.errors import SpecError
from streamer.features.encoder import Encoder
from streamer.features.layout import GROUPS, FloatColumn, IdColumns, Layout
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
from streamer.paths import column_getter, getter, parse_path
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
    "SpecError",
    "column_getter",
    "getter",
    "parse_path",
    "to_float",
]
