"""The feature contract: equal values have equal encodings, in serving and in training.

In: a `FeatureSpec` and bid requests or logged rows. Out: `EncodedRequest`, flat rows, the layout of their columns.
Unknown and missing values take defaults. Equal spec hashes mean interchangeable encoders. Imports only `errors` and
`types` of the scorer; pure: no loop, clock, log, client or metric.
"""

from streamer.errors import SpecError
from streamer.features.encoder import Encoder
from streamer.features.kinds import Bucketised, Categorical, Cross, Feature, MultiValued, Numeric
from streamer.features.layout import GROUPS, FloatColumn, IdColumns, Layout
from streamer.features.paths import column_getter, getter
from streamer.features.served import ServedRows, decode_served, encode_served
from streamer.features.side import to_float
from streamer.features.spec import FeatureSpec, Group

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
    "ServedRows",
    "SpecError",
    "column_getter",
    "decode_served",
    "encode_served",
    "getter",
    "to_float",
]
