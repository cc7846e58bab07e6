"""The feature contract: equal values have equal encodings, in serving and in training.

In: a `FeatureSpec` and bid requests or logged rows. Out: `EncodedRequest`, flat rows, the layout of their columns.
Unknown and missing values take defaults. Equal spec hashes mean interchangeable encoders. Imports only `errors` and
`types` of the scorer; pure: no loop, clock, log, client or metric.
"""

from streamer.errors import SpecError
from streamer.features.encoder import Encoder
from streamer.features.kinds import Bucketised, Cross, Numeric
from streamer.features.layout import GROUPS, Layout
from streamer.features.spec import FeatureSpec, Group

__all__ = ["GROUPS", "Bucketised", "Cross", "Encoder", "FeatureSpec", "Group", "Layout", "Numeric", "SpecError"]
