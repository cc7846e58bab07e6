"""Options of `train` and `launch` for their data, and opening the data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from model_training.commands.output import console
from model_training.config.training import TrainingConfig
from model_training.errors import ConfigError
from model_training.urls import path_or_url

if TYPE_CHECKING:
    from model_training.data.manifest import Damage
    from model_training.data.training_data import TrainingData
    from streamer.features import FeatureSpec

ConfigOption = Annotated[
    Path, typer.Option(help="Model config.", show_default="configs/models/wide_deep.yaml in the package")
]
LogOption = Annotated[Path | None, typer.Option(help="Click log: JSON lines, one per request; gzip is allowed.")]
PreparedOption = Annotated[
    Path | None,
    typer.Option(parser=path_or_url, help="Folder that `prepare` made; its manifest has the sampling rate."),
]
JudgeBy = Literal["validation", "test"]
TrainedJudgeBy = Literal["validation", "test", "none"]
TrainedJudgeByOption = Annotated[
    TrainedJudgeBy, typer.Option(help="Split of prepared data to evaluate the model on; none for no evaluation.")
]
JudgeByOption = Annotated[JudgeBy, typer.Option(help="Split of prepared data to evaluate the model on.")]
HoldoutOption = Annotated[float, typer.Option(help="Share of the log, its last lines, to evaluate the model on.")]
SamplingOption = Annotated[float, typer.Option(help="Share of the non-clicks that the log contains.")]


Use = Literal["with --log", "with --prepared", "with --records", "with TF_CONFIG", "without TF_CONFIG"]
_IGNORED: dict[Use, tuple[str, ...]] = {
    "with --log": ("judge_by", "also_prepared"),
    "with --prepared": ("records", "holdout", "negative_sampling_rate", "user_path"),
    "with --records": ("judge_by", "holdout", "negative_sampling_rate"),
    "with TF_CONFIG": (
        *("log", "prepared", "judge_by", "holdout", "negative_sampling_rate"),
        *("baseline", "predictions", "as_json"),
    ),
    "without TF_CONFIG": ("mode", "backup", "lost_shards"),
}
"""Options without a meaning: a log has no splits, other data are already split, a process of a cluster has records."""


def check_options(context: typer.Context, use: Use) -> None:
    """Rejects an option on the command line that would be ignored in this `use` of the command.

    Raises:
        ConfigError: there is such an option.
    """
    for name in _IGNORED[use]:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = name.removeprefix("as_").replace("_", "-")
            raise ConfigError(f"--{option}: has no meaning {use}")


def check_log_or_prepared(context: typer.Context, log: Path | None, prepared: Path | None) -> None:
    """Requires either --log or --prepared, and rejects options that have no meaning for it.

    Raises:
        ConfigError: both are given, or neither, or such an option.
    """
    if (log is None) is (prepared is None):
        raise ConfigError("--log or --prepared: exactly one is needed")
    check_options(context, "with --log" if prepared is None else "with --prepared")


def open_log(
    log: Path,
    directory: Path,
    spec: "FeatureSpec",
    config: TrainingConfig,
    *,
    holdout: float,
    negative_sampling_rate: float,
) -> "TrainingData":
    """Encodes a log into `directory`, with validation examples if `config` needs them.

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
            validation_share=config.validation_share,
            negative_sampling_rate=negative_sampling_rate,
        )


def open_prepared(prepared: Path, judge_by: TrainedJudgeBy, config: TrainingConfig) -> "TrainingData":
    """Opens a folder that `prepare` made, and prints the damage.

    Raises:
        ConfigError: the final fit learns the split `judge_by`.
        TrainingError: see `model_training.data.training_data.open_prepared`.
    """
    from model_training.data import training_data  # noqa: PLC0415 - loads TensorFlow

    stopping = config.early_stopping
    if judge_by == "validation" and stopping is not None and stopping.final_fit:
        raise ConfigError("--judge-by validation: early_stopping.final_fit learns these rows; use test, or none")
    split = None if judge_by == "none" else judge_by
    data = training_data.open_prepared(prepared, split, max_lost_share=config.max_lost_share)
    if data.damage is not None:
        print_damage(data.damage)
    return data


def print_damage(damage: "Damage") -> None:
    """Prints the lost shards, if there are any."""
    if damage.shards:
        console.print(
            f"lost {damage.examples:,} examples in damaged shards: {', '.join(damage.shards)}", soft_wrap=True
        )
