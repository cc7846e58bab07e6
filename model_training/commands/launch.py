"""`model-training launch`: distributed training with all processes on this machine."""

import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from model_training.commands.calibration import calibrate, check_calibration
from model_training.commands.coverage import print_coverage
from model_training.commands.data import (
    ConfigOption,
    HoldoutOption,
    LogOption,
    PreparedOption,
    SamplingOption,
    TrainedJudgeByOption,
    check_options,
    open_log,
    open_prepared,
    print_damage,
)
from model_training.commands.lineage import data_of, processes_of
from model_training.commands.output import AsJson, console, export_described, fail_clearly
from model_training.commands.quality import check_evaluable, print_quality, print_trained
from model_training.commands.role import (
    BackupOption,
    ModeOption,
    StartOption,
    check_no_final_fit,
    distributed_config,
    find_start,
)
from model_training.config.packaged import MODEL_CONFIG
from model_training.config.training import TrainingConfig, load_spec
from model_training.data.coverage import read_coverage
from model_training.data.manifest import unchanged
from model_training.distributed.cluster import Schedule, Task, check_mode
from model_training.distributed.launcher import Launcher, local_cluster
from model_training.errors import ConfigError
from model_training.export.versions import check_free
from model_training.runtime import load_tensorflow
from model_training.urls import path_or_url

if TYPE_CHECKING:
    from model_training.data.manifest import Damage, Manifest
    from model_training.data.training_data import TrainingData


def launch(
    context: typer.Context,
    *,
    config: ConfigOption = MODEL_CONFIG,
    log: LogOption = None,
    prepared: PreparedOption = None,
    judge_by: TrainedJudgeByOption = "validation",
    records: Annotated[
        Path | None,
        typer.Option(parser=path_or_url, help="Folder for the log's encoded records, or a folder of existing records."),
    ] = None,
    spec: Annotated[Path | None, typer.Option(help="Feature spec; by default the one in the config.")] = None,
    ps: Annotated[
        int | None, typer.Option(min=0, help="Number of parameter servers; by default 2, and 0 in mode mirrored.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Number of computing processes, including the chief.")] = 2,
    mode: ModeOption = None,
    backup: BackupOption = None,
    restarts: Annotated[int, typer.Option(min=0, help="Total number of restarts of processes that die.")] = 3,
    checkpoints: Annotated[
        Path | None,
        typer.Option(
            parser=path_or_url, help="Folder for checkpoints, from which a later run continues; by default temporary."
        ),
    ] = None,
    export_to: Annotated[
        Path | None, typer.Option(parser=path_or_url, help="Base path of the model's versions.")
    ] = None,
    start: StartOption = None,
    version: Annotated[int, typer.Option(help="Version to export as.")] = 1,
    holdout: HoldoutOption = 0.1,
    negative_sampling_rate: SamplingOption = 1.0,
    as_json: AsJson = False,
) -> None:
    """Trains with several processes on this machine, evaluates the model and exports it."""
    with fail_clearly():
        started = datetime.now(UTC)
        parsed = distributed_config(config, mode, backup)
        if ps is None:
            ps = 0 if parsed.distributed.mode == "mirrored" else 2
        check_mode(parsed.distributed.mode, servers=ps)
        check_no_final_fit(parsed)
        features = load_spec(spec or parsed.spec)
        if (log is not None) + (prepared is not None) > 1 or not (log or prepared or records):
            raise ConfigError("--log, --prepared or --records: one is needed")
        check_options(context, "with --log" if log else "with --prepared" if prepared else "with --records")
        if export_to is not None:
            check_free(export_to, version)
        # Loading TensorFlow takes seconds; a wrong setting must fail before.
        load_tensorflow()
        source = find_start(start, checkpoints)
        from model_training.checkpoints import claimed  # noqa: PLC0415
        from model_training.distributed.result import progress_of, servable_model, trained_model  # noqa: PLC0415
        from model_training.distributed.run import Run  # noqa: PLC0415

        with tempfile.TemporaryDirectory() as scratch:
            kept = checkpoints or Path(scratch, "checkpoints")
            directory = prepared or records or Path(scratch, "records")
            data = None
            if prepared is not None:
                data = open_prepared(prepared, judge_by, parsed)
            elif log is not None:
                data = open_log(
                    log, directory, features, parsed, holdout=holdout, negative_sampling_rate=negative_sampling_rate
                )
            manifest, damage = _checked(data, directory, parsed)
            manifest.check(features)
            check_calibration(directory, parsed)
            used = data_of(log, directory, manifest, parsed, holdout=holdout, source=source)
            schedule = Schedule.of(parsed.distributed, workers, manifest.examples * parsed.epochs, parsed.batch_size)
            cluster = local_cluster(ps, workers)
            identity = Run(cluster, Task("chief", 0), parsed, features, directory, manifest, kept, source).identity
            with claimed(kept, identity):
                pass  # a wrong folder is one line, and no process starts; the chief takes the folder
            console.print(
                f"{manifest.examples:,} examples, {manifest.positives:,} clicks, spec {features.name} {features.hash};"
                f" {schedule.steps:,} steps of {schedule.aggregated} × {parsed.batch_size} examples"
            )
            lost = () if damage is None else damage.shards
            command = _command(
                parsed, lost, config=config, records=directory, checkpoints=kept, spec=spec, warm_start=start
            )
            with unchanged(directory):
                asyncio.run(Launcher(cluster, lambda _: command, _say, restarts=restarts).run())
            calibration = calibrate(
                lambda: trained_model(kept, parsed, features), features, directory, manifest, parsed
            )
            quality, exported = {}, None
            if data is not None:
                quality = print_quality(
                    trained_model(kept, parsed, features), parsed, features, data, calibration=calibration
                )
            print_coverage(read_coverage(directory))
            if export_to is not None:
                servable, tables = servable_model(kept, parsed, features)
                exported = export_described(
                    servable,
                    features,
                    parsed,
                    export_to,
                    version,
                    started=started,
                    data=used,
                    progress=progress_of(kept, parsed, schedule, manifest.examples),
                    processes=processes_of(cluster, parsed.distributed),
                    source=source,
                    tables=tables,
                    calibration=calibration,
                )
            print_trained(manifest, features, used, quality, exported, as_json=as_json)


def _checked(data: "TrainingData | None", directory: Path, config: TrainingConfig) -> "tuple[Manifest, Damage | None]":
    """The training records, and what they have lost; without `data` they are those of a folder."""
    from model_training.data.manifest import without_damaged  # noqa: PLC0415 - loads TensorFlow
    from model_training.data.prepared import read_training_records  # noqa: PLC0415

    if data is not None:
        check_evaluable(data)
        return data.manifest, data.damage
    manifest, damage = without_damaged(
        directory, read_training_records(directory), max_lost_share=config.max_lost_share
    )
    print_damage(damage)
    manifest.check_classes("examples")
    return manifest, damage


def _command(parsed: TrainingConfig, lost_shards: Sequence[str], **paths: Path | None) -> list[str]:
    """The command of one process of the run, with the `paths` as its options."""
    options = [
        part for name, path in paths.items() if path is not None for part in (f"--{name.replace('_', '-')}", str(path))
    ]
    settings = parsed.distributed
    options += ["--mode", settings.mode, "--backup", str(settings.backup_workers)]
    return [sys.executable, "-m", "model_training", "train", *options, "--lost-shards", json.dumps(list(lost_shards))]


def _say(task: Task, line: str) -> None:
    console.print(f"[bold]{f'{task}':>9}[/bold] {escape(line)}", soft_wrap=True)
