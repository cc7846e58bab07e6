"""One process of a distributed run, and the options that `train` and `launch` share for it."""

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_training.commands.calibration import calibrate, check_calibration
from model_training.commands.data import print_damage
from model_training.commands.lineage import data_of, processes_of
from model_training.commands.output import console, export_described
from model_training.config.training import Mode, TrainingConfig, load_spec
from model_training.distributed.cluster import Cluster, Task, check_mode
from model_training.distributed.lifeline import end_with_launcher
from model_training.distributed.pace import Pace
from model_training.errors import ConfigError
from model_training.export.versions import check_free
from model_training.runtime import load_tensorflow

if TYPE_CHECKING:
    from model_training.distributed.run import Run
    from model_training.training.loop import Progress
    from model_training.training.source import Source
    from model_training.training.warm_start import Start
    from streamer.features import FeatureSpec

ModeOption = Annotated[
    Mode | None, typer.Option(help="Mode of distributed training, instead of the config's; mirrored has no ps.")
]
BackupOption = Annotated[
    int | None, typer.Option(help="Number of backup workers, which a step does not wait for, instead of the config's.")
]

StartOption = Annotated[
    Path | None,
    typer.Option(
        "--warm-start",
        "--from",
        help="Exported version or folder of checkpoints, whose weights a run begins with.",
    ),
]


def find_start(path: Path | None, checkpoints: Path | None) -> "Source | None":
    """The model at the path of --warm-start, if there is one, without TensorFlow's runtime.

    A run that continues in the folder `checkpoints` does not need the model itself.

    Raises:
        TrainingError: see `model_training.training.source.Source`.
    """
    from model_training.training.source import Source  # noqa: PLC0415 - loads TensorFlow

    if path is None:
        return None
    return (Source.recorded(path, checkpoints) if checkpoints is not None else None) or Source.find(path)


def open_start(source: "Source", config: TrainingConfig, spec: "FeatureSpec", *, quietly: bool = False) -> "Start":
    """Opens the model from which a run begins, and prints what it keeps, unless `quietly`.

    Raises:
        TrainingError: see `model_training.training.warm_start.Start`.
    """
    from model_training.training.warm_start import Start  # noqa: PLC0415 - loads TensorFlow

    start = Start.open(source, spec)
    for line in () if quietly else start.lines(config, spec):
        console.print(line, soft_wrap=True)
    return start


def print_rate(start: "Start", rate: float) -> None:
    """Prints a line if the model's sampling rate is not known and `rate` is not 1."""
    for line in start.lines_on_rate(rate):
        console.print(line, style="yellow", soft_wrap=True)


def distributed_config(path: Path, mode: Mode | None, backup: int | None) -> TrainingConfig:
    """Reads a config; options of the command line replace settings of the distributed run.

    Raises:
        ConfigError: the config is wrong, or the options contradict it.
    """
    config = TrainingConfig.from_yaml(path)
    options = {"mode": mode, "backup_workers": backup}
    given = {key: value for key, value in options.items() if value is not None}
    return config.with_distributed(given)


def check_no_final_fit(config: TrainingConfig) -> None:
    """Rejects a final fit, which only a single process makes.

    Raises:
        ConfigError: `config` has one.
    """
    if config.early_stopping is not None and config.early_stopping.final_fit:
        raise ConfigError("early_stopping.final_fit: only `train` in a single process makes a final fit")


def play_role(  # noqa: PLR0915  one sequence
    cluster: Cluster,
    task: Task,
    *,
    config: TrainingConfig,
    spec_path: Path | None,
    records: Path | None,
    checkpoints: Path | None,
    start_path: Path | None,
    export_to: Path | None,
    version: int,
    lost_shards: str | None = None,
) -> None:
    """Serves or computes until the run ends; with `export_to` the chief exports the model.

    Args:
        lost_shards: the damaged shards of the records, a JSON list, if `launch` has checked them; otherwise the chief
            does.

    Raises:
        TrainingError: see `compute` of the mode.
    """
    started = datetime.now(UTC)
    end_with_launcher(os.environ)
    if records is None or checkpoints is None:
        raise ConfigError("TF_CONFIG is set: --records and --checkpoints are needed")
    check_mode(config.distributed.mode, servers=len(cluster.ps))
    check_no_final_fit(config)
    spec = load_spec(spec_path or config.spec)
    if export_to is not None and task.role == "chief":
        check_free(export_to, version)
    load_tensorflow()
    # At the level of warnings, TensorFlow reports in every process that its graph runtime is deprecated.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    from model_training.checkpoints import claimed  # noqa: PLC0415
    from model_training.data.manifest import without_damaged  # noqa: PLC0415
    from model_training.data.prepared import read_training_records  # noqa: PLC0415
    from model_training.distributed import mirrored  # noqa: PLC0415
    from model_training.distributed.parameter_servers.computing import compute  # noqa: PLC0415
    from model_training.distributed.parameter_servers.first_checkpoint import write_first_checkpoint  # noqa: PLC0415
    from model_training.distributed.parameter_servers.serving import serve  # noqa: PLC0415
    from model_training.distributed.result import is_finished, progress_of, servable_model, trained_model  # noqa: PLC0415
    from model_training.distributed.run import Run  # noqa: PLC0415

    whole = read_training_records(records)
    whole.check(spec)
    source = find_start(start_path, checkpoints)

    def opened() -> "Start":
        assert source is not None, "there is a model to begin with"
        start = open_start(source, config, spec, quietly=task.role != "chief")
        if task.role == "chief":
            print_rate(start, whole.negative_sampling_rate)
        return start

    run = Run(cluster, task, config, spec, records, whole, checkpoints, source, opened if source else None)
    if task.role == "ps":
        serve(run)
        return
    is_mirrored = config.distributed.mode == "mirrored"
    learn = mirrored.compute if is_mirrored else compute
    if task.role == "worker":
        learn(run, _joined())
        return
    if lost_shards is None:
        manifest, damage = without_damaged(records, whole, max_lost_share=config.max_lost_share)
        print_damage(damage)
    else:
        manifest = whole.without(frozenset(json.loads(lost_shards)))
    manifest.check_classes("examples")
    run = replace(run, manifest=manifest)
    check_calibration(records, config)
    with claimed(checkpoints, run.identity) as last:
        if last is not None:
            made = "; no steps: an earlier run has made all of them" if is_finished(last, run) else ""
            console.print(f"continues from {last}{made}", soft_wrap=True)
        elif source is not None and not is_mirrored:
            write_first_checkpoint(run, opened())
        learn(run, _reporter(run))
    if export_to is not None:
        calibration = calibrate(lambda: trained_model(checkpoints, config, spec), spec, records, manifest, config)
        model, tables = servable_model(checkpoints, config, spec)
        export_described(
            model,
            spec,
            config,
            export_to,
            version,
            started=started,
            data=data_of(None, records, manifest, config, source=source),
            progress=progress_of(checkpoints, config, run.schedule, manifest.examples),
            processes=processes_of(cluster, config.distributed),
            source=source,
            tables=tables,
            calibration=calibration,
        )


def _joined() -> Callable[["Progress"], None]:
    """Reports once that a worker takes part; the chief reports the progress of the run."""
    has_reported = False

    def report(progress: "Progress") -> None:
        nonlocal has_reported
        if not has_reported:
            has_reported = True
            console.print(f"takes part, at step {progress.steps:,}", soft_wrap=True)

    return report


def _reporter(run: "Run") -> Callable[["Progress"], None]:
    pace = Pace(run.schedule.steps, started=time.monotonic())

    def report(progress: "Progress") -> None:
        line = pace.line(progress.steps, progress.examples, progress.loss, now=time.monotonic())
        console.print(line, soft_wrap=True)

    return report
