"""`model-training init`: exports an untrained version.

With it, serving can be tested before there is a click log.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from model_training.commands.data import ConfigOption
from model_training.commands.output import export_described, fail_clearly
from model_training.config.packaged import MODEL_CONFIG
from model_training.config.training import TrainingConfig, load_spec
from model_training.runtime import load_tensorflow
from model_training.urls import path_or_url


def init(
    *,
    export_to: Annotated[Path, typer.Option(parser=path_or_url, help="Base path of the model's versions.")],
    config: ConfigOption = MODEL_CONFIG,
    spec: Annotated[Path | None, typer.Option(help="Feature spec; by default the one in the config.")] = None,
    version: Annotated[int, typer.Option(help="Version to export as.")] = 1,
) -> None:
    """Exports a model with random weights: real size and speed, meaningless scores."""
    with fail_clearly():
        parsed = TrainingConfig.from_yaml(config)
        features = load_spec(spec or parsed.spec)
        # Loading TensorFlow takes seconds; a wrong setting must fail before.
        load_tensorflow()
        from model_training.models.build import build_model  # noqa: PLC0415

        started, model = datetime.now(UTC), build_model(parsed, features)
        export_described(model, features, parsed, export_to, version, started=started)
