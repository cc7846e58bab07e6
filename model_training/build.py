"""From a config to an untrained model."""

from typing import assert_never

from model_training.config import TrainingConfig
from model_training.model_config import DeepFmConfig, WideDeepConfig
from model_training.models.deepfm import DeepFm
from model_training.models.model import Model
from model_training.models.wide_deep import WideDeep
from model_training.variables import VariableFactory, create_variable
from streamer.features import FeatureSpec, Layout


def build_model(config: TrainingConfig, spec: FeatureSpec, *, create: VariableFactory = create_variable) -> Model:
    """The untrained model that `config` names.

    Raises:
        ConfigError: the spec does not suit it.
    """
    layout, chosen, seed = Layout(spec), config.model, config.seed
    match chosen:
        case WideDeepConfig():
            return WideDeep(
                layout, chosen.hidden_units, embedding_stddev=chosen.embedding_stddev, seed=seed, create=create
            )
        case DeepFmConfig():
            return DeepFm(
                layout, chosen.hidden_units, embedding_stddev=chosen.embedding_stddev, seed=seed, create=create
            )
        case _:
            assert_never(chosen)
