"""The command line `model-training`, one file per command.

Guarantees: an error is one line on standard error and an exit status; a wrong setting fails before TensorFlow loads.
In: options and config files. Out: exit status, tables, files. May import: everything below.
"""

import os

# TensorFlow writes a greeting to standard error unless this is set before it is loaded.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


import typer

from model_training.commands.collisions import collisions
from model_training.commands.coverage import coverage
from model_training.commands.evaluate import evaluate
from model_training.commands.init import init
from model_training.commands.label import label
from model_training.commands.launch import launch
from model_training.commands.output import Command
from model_training.commands.placement import placement
from model_training.commands.prepare import prepare
from model_training.commands.publish import publish
from model_training.commands.reproduce import reproduce
from model_training.commands.show import show
from model_training.commands.train import train
from streamer.distribution import Version

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
for command in (
    prepare,
    collisions,
    coverage,
    train,
    launch,
    placement,
    evaluate,
    publish,
    label,
    show,
    reproduce,
    init,
):
    app.command(cls=Command)(command)


@app.callback()
def model_training(
    *,
    version: Version = False,
) -> None:
    """Trains and exports click-through-rate models."""


def main() -> None:
    """The console command."""
    app()
