"""The users of impressions, by which whole users are resampled."""

import numpy as np

from model_training.data.examples import Examples
from model_training.errors import ConfigError, DataError
from model_training.evaluation.comparison import Codes
from streamer.features import FeatureSpec, Layout


def users_of(examples: Examples, spec: FeatureSpec, feature: str) -> Codes:
    """The user of each of n examples, as numbers from 0: [n].

    Raises:
        DataError: there are no examples.
        ConfigError: the spec has no such single-valued feature on the user's side.
    """
    if not len(examples.labels):
        raise DataError("there are no examples to evaluate a model on")
    for column in Layout(spec).ids["request"]:
        if column.feature.name == feature and column.width == 1:
            return np.unique(examples.ids[:, column.start], return_inverse=True)[1]
    raise ConfigError(
        f"user feature {feature!r}: spec {spec.name!r} has no such single-valued feature on the user's side"
    )
