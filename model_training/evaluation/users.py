"""Users of examples."""

import numpy as np

from model_training.data.examples import Examples
from model_training.errors import ConfigError, DataError
from model_training.evaluation.comparison import Codes
from streamer.features import FeatureSpec, Layout


def users_of(examples: Examples, spec: FeatureSpec, feature: str) -> Codes:
    """Whose impression each of n examples is, as numbers from 0; [n].

    Raises:
        DataError: there are no examples.
        ConfigError: the spec has no such feature of one value on the user's side.
    """
    if not len(examples.labels):
        raise DataError("there are no examples to judge a model by")
    for column in Layout(spec).ids["request"]:
        if column.feature.name == feature and column.width == 1:
            return np.unique(examples.ids[:, column.start], return_inverse=True)[1]
    raise ConfigError(
        f"user feature {feature!r}: spec {spec.name!r} has no such feature of one value on the user's side"
    )
