"""The result of a distributed run: the trained model."""

from pathlib import Path

from model_training.checkpoints import load_model
from model_training.config.training import TrainingConfig
from model_training.distributed.parameter_servers.variables import restore, restored_without_tables
from model_training.early_stopping.best_model import result_checkpoint
from model_training.export.stored_tables import StoredTables
from model_training.models.build import build_model
from model_training.models.model import Model
from streamer.features import FeatureSpec


def trained_model(checkpoints: Path, config: TrainingConfig, spec: FeatureSpec) -> Model:
    """The model of a finished run, with whole tables as a single process would have them.

    With early stopping it is the best model, otherwise the model of the last checkpoint.

    Raises:
        DataError: there is no checkpoint, or it is of another model.
    """
    model, path = build_model(config, spec), result_checkpoint(checkpoints, config)
    load = load_model if config.distributed.mode == "mirrored" else restore
    load(model, path)
    return model


def servable_model(checkpoints: Path, config: TrainingConfig, spec: FeatureSpec) -> tuple[Model, StoredTables]:
    """The model of a finished run for `export`: tables of parameter servers stay in the checkpoint.

    Raises:
        DataError: as `trained_model`.
    """
    if config.distributed.mode == "mirrored":
        return trained_model(checkpoints, config, spec), {}
    return restored_without_tables(config, spec, result_checkpoint(checkpoints, config))
