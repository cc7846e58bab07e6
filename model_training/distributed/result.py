"""What a distributed run leaves behind: checkpoints of one model, and that model."""

import json
from pathlib import Path

import tensorflow as tf

from model_training.build import build_model
from model_training.config import TrainingConfig
from model_training.distributed.variables import restore
from model_training.errors import ConfigError, DataError
from model_training.models.model import Model
from streamer.features import FeatureSpec

_IDENTITY = "run.json"


def claim(checkpoints: Path, config: TrainingConfig, spec: FeatureSpec) -> str | None:
    """Takes a folder for a run's checkpoints: a new one, or one of a run with the same model, which then goes on.

    Returns:
        The checkpoint from which the run goes on, if there is one.

    Raises:
        ConfigError: it holds checkpoints of another model or spec, or cannot be written.
    """
    path = checkpoints / _IDENTITY
    shards = config.distributed.table_shards
    identity = {"spec": spec.hash, "model": config.model.model_dump(mode="json"), "table_shards": shards}
    try:
        checkpoints.mkdir(parents=True, exist_ok=True)
        if path.exists():
            found = json.loads(path.read_bytes())
            if found != identity:
                raise ConfigError(f"{checkpoints}: holds checkpoints of another run: {found} instead of {identity}")
        else:
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(identity), encoding="utf-8")
            partial.rename(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read or written: {error}") from error
    return tf.train.latest_checkpoint(str(checkpoints))  # type: ignore[no-any-return]


def trained_model(checkpoints: Path, config: TrainingConfig, spec: FeatureSpec) -> Model:
    """The model of the last checkpoint, whole, as a single process would have trained it.

    Raises:
        DataError: there is no checkpoint, or one of another model.
    """
    last = tf.train.latest_checkpoint(str(checkpoints))
    if last is None:
        raise DataError(f"{checkpoints}: holds no checkpoint")
    model = build_model(config, spec)
    restore(model, last)
    return model
