"""`model-training label`: assigns a label to an existing version."""

from pathlib import Path
from typing import Annotated

import typer

from model_training.commands.output import console, fail_clearly
from model_training.runtime import load_tensorflow

ModelConfigOption = Annotated[
    Path | None, typer.Option(help="Model config file of TensorFlow Serving, in which the label is set.")
]


def label(
    name: Annotated[str, typer.Argument(help="The label, such as stable.")],
    version: Annotated[int, typer.Argument(help="The version that gets the label.")],
    *,
    to: Annotated[Path, typer.Option(help="Base path of the versions; the folder has the model's name.")],
    model_config: Annotated[Path, typer.Option(help="Model config file of TensorFlow Serving.")],
) -> None:
    """Assigns a label to a version, in the model config file that a server polls."""
    with fail_clearly():
        load_tensorflow()
        from model_training.publishing.version_labels import set_label  # noqa: PLC0415 - loads TensorFlow

        set_label(model_config, to, name, version)
        console.print(f"label {name}: version {version}", style="green")
