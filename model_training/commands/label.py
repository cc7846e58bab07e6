"""`model-training label`: gives a name to a version that is there already."""

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
    version: Annotated[int, typer.Argument(help="The version that it is to lead to.")],
    *,
    to: Annotated[Path, typer.Option(help="Base path of the versions; its name is the model's in the file.")],
    model_config: Annotated[Path, typer.Option(help="Model config file of TensorFlow Serving.")],
) -> None:
    """Has a label lead to a version, in the file that a server rereads."""
    with fail_clearly():
        load_tensorflow()
        from model_training.publishing.version_labels import set_label  # noqa: PLC0415 - loads TensorFlow

        set_label(model_config, to, name, version)
        console.print(f"{name} is version {version}", style="green")
