"""The data that `train` and `launch` are told to train on, opened."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from model_training.commands.output import console
from model_training.config.training import TrainingConfig
from model_training.errors import ConfigError

if TYPE_CHECKING:
    from model_training.data.manifest import Damage
    from model_training.data.training_data import TrainingData
    from streamer.features import FeatureSpec

LogOption = Annotated[
    Path | None, typer.Option(help="Click log: JSON lines, one a request; may be compressed by gzip.")
]
PreparedOption = Annotated[
    Path | None, typer.Option(help="Folder that `prepare` made; its manifest knows the sampling rate.")
]
Kind = Literal["log", "prepared", "records"]
JudgeBy = Literal["validation", "test"]
JudgeByOption = Annotated[JudgeBy, typer.Option(help="Split of prepared data to judge the model by.")]
HoldoutOption = Annotated[float, typer.Option(help="Share of the log, its last lines, to judge the model by.")]
SamplingOption = Annotated[float, typer.Option(help="Share of the non-clicks that the log kept.")]


_NOT_FOR: dict[Kind, tuple[str, ...]] = {
    "log": ("judge_by",),
    "prepared": ("records", "holdout", "negative_sampling_rate"),
    "records": ("judge_by", "holdout", "negative_sampling_rate"),
}
"""Options that mean nothing for data of a kind: a log has no splits, the others are split already."""


def check_options(context: typer.Context, kind: Kind) -> None:
    """Refuses an option of the command line that would be passed over for data of this `kind`.

    Raises:
        ConfigError: there is one.
    """
    for name in _NOT_FOR[kind]:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise ConfigError(f"--{name.replace('_', '-')}: means nothing with --{kind}")


def check_log_or_prepared(context: typer.Context, log: Path | None, prepared: Path | None) -> None:
    """Refuses commands with both or neither, and options that mean nothing for the one that there is.

    Raises:
        ConfigError: there is something to refuse.
    """
    if (log is None) is (prepared is None):
        raise ConfigError("--log or --prepared: one of them is needed")
    check_options(context, "log" if prepared is None else "prepared")


def open_log(
    log: Path,
    directory: Path,
    spec: "FeatureSpec",
    config: TrainingConfig,
    *,
    holdout: float,
    negative_sampling_rate: float,
) -> "TrainingData":
    """A log, encoded into `directory`, with examples for early stopping if `config` has it.

    Raises:
        TrainingError: see `model_training.data.training_data.split_log`.
    """
    from model_training.data.training_data import split_log  # noqa: PLC0415 - loads TensorFlow

    with console.status(f"encoding {log}"):
        return split_log(
            log,
            directory,
            spec,
            holdout=holdout,
            validation_share=config.early_stopping.validation_share if config.early_stopping else 0.0,
            negative_sampling_rate=negative_sampling_rate,
        )


def open_prepared(prepared: Path, judge_by: JudgeBy, config: TrainingConfig) -> "TrainingData":
    """What `prepare` made; says what is missing from it.

    Raises:
        TrainingError: see `model_training.data.training_data.open_prepared`.
    """
    from model_training.data import training_data  # noqa: PLC0415 - loads TensorFlow

    data = training_data.open_prepared(prepared, judge_by, max_lost_share=config.max_lost_share)
    if data.damage is not None:
        tell_damage(data.damage)
    return data


def tell_damage(damage: "Damage") -> None:
    """Says what is missing from records, if anything is."""
    if damage.shards:
        console.print(
            f"lost {damage.examples:,} examples of damaged shards: {', '.join(damage.shards)}", soft_wrap=True
        )
