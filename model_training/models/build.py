"""Builds an untrained model from a config."""

from collections.abc import Sequence
from typing import assert_never

import tensorflow as tf

from model_training.config.model import (
    DcnConfig,
    DcnV2Config,
    DeepFmConfig,
    LogisticRegressionConfig,
    WideDeepConfig,
    XDeepFmConfig,
)
from model_training.config.training import TrainingConfig
from model_training.models.dcn import DeepCross
from model_training.models.dcn_v2 import DeepCrossV2
from model_training.models.deepfm import DeepFm
from model_training.models.logistic_regression import LogisticRegression
from model_training.models.model import Model
from model_training.models.wide_deep import WideDeep
from model_training.models.xdeepfm import XDeepFm
from model_training.parts.variables import Initializer, VariableFactory, create_variable
from streamer.features import FeatureSpec, Layout

OUTPUT_BIAS = "bias"
"""Each model's bias of the logit has this name."""


def build_model(
    config: TrainingConfig, spec: FeatureSpec, *, log_odds: float = 0.0, create: VariableFactory = create_variable
) -> Model:
    """The untrained model that `config` names.

    Args:
        log_odds: log odds of a click in the training data, at which the bias of the logit begins. From 0, that is one
            click in two, a rare event would take most of a pass to learn.

    Raises:
        ConfigError: the spec does not suit the model.
    """
    create = _with_output_bias(create, log_odds)
    layout, chosen, seed = Layout(spec), config.model, config.seed
    if isinstance(chosen, LogisticRegressionConfig):
        return LogisticRegression(layout, create=create)
    units, stddev = chosen.hidden_units, chosen.embedding_stddev
    match chosen:
        case WideDeepConfig():
            return WideDeep(layout, units, embedding_stddev=stddev, seed=seed, create=create)
        case DeepFmConfig():
            return DeepFm(layout, units, embedding_stddev=stddev, seed=seed, create=create)
        case DcnConfig():
            return DeepCross(
                layout, units, cross_layers=chosen.cross_layers, embedding_stddev=stddev, seed=seed, create=create
            )
        case DcnV2Config():
            return DeepCrossV2(
                layout,
                units,
                cross_layers=chosen.cross_layers,
                rank=chosen.rank,
                parallel=chosen.structure == "parallel",
                embedding_stddev=stddev,
                seed=seed,
                create=create,
            )
        case XDeepFmConfig():
            return XDeepFm(
                layout, units, feature_maps=chosen.feature_maps, embedding_stddev=stddev, seed=seed, create=create
            )
        case _:
            assert_never(chosen)


def _with_output_bias(create: VariableFactory, value: float) -> VariableFactory:
    """`create`, but the bias of the logit begins at `value`."""

    def created(name: str, shape: Sequence[int], initializer: Initializer, *, table: bool = False) -> tf.Variable:
        first = (lambda shape: tf.fill(shape, value)) if name == OUTPUT_BIAS else initializer
        return create(name, shape, first, table=table)

    return created
