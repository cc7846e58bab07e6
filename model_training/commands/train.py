"""`model-training train`: trains on a log or prepared data, evaluates and exports."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from model_training.commands.calibration import calibrate, check_calibration
from model_training.commands.coverage import print_coverage
from model_training.commands.data import (
    ConfigOption,
    HoldoutOption,
    LogOption,
    PreparedOption,
    SamplingOption,
    TrainedJudgeBy,
    TrainedJudgeByOption,
    check_log_or_prepared,
    check_options,
    open_log,
    open_prepared,
)
from model_training.commands.lineage import data_of, progress_of
from model_training.commands.output import AsJson, console, export_described, fail_clearly
from model_training.commands.quality import check_evaluable, print_quality, print_trained
from model_training.commands.role import (
    BackupOption,
    ModeOption,
    StartOption,
    distributed_config,
    find_start,
    open_start,
    play_role,
    print_rate,
)
from model_training.config.packaged import MODEL_CONFIG
from model_training.config.training import TrainingConfig, load_spec
from model_training.data.coverage import read_coverage
from model_training.data.manifest import unchanged
from model_training.distributed.cluster import read_tf_config
from model_training.errors import ConfigError
from model_training.export.versions import check_free
from model_training.lineage.lineage import Processes
from model_training.runtime import load_tensorflow
from model_training.urls import path_or_url

if TYPE_CHECKING:
    from model_training.data.training_data import TrainingData
    from model_training.models.model import Model
    from model_training.training.loop import Progress, TrainResult
    from model_training.training.warm_start import Start
    from streamer.features import FeatureSpec


def train(
    context: typer.Context,
    *,
    log: LogOption = None,
    prepared: PreparedOption = None,
    config: ConfigOption = MODEL_CONFIG,
    spec: Annotated[Path | None, typer.Option(help="Feature spec; by default the one in the config.")] = None,
    records: Annotated[Path | None, typer.Option(parser=path_or_url, help="Folder for the encoded records.")] = None,
    export_to: Annotated[
        Path | None, typer.Option(parser=path_or_url, help="Base path of the model's versions.")
    ] = None,
    version: Annotated[int, typer.Option(help="Version to export as.")] = 1,
    judge_by: TrainedJudgeByOption = "validation",
    holdout: HoldoutOption = 0.1,
    negative_sampling_rate: SamplingOption = 1.0,
    baseline: Annotated[bool, typer.Option(help="Also evaluate a logistic regression without crosses.")] = False,
    predictions: Annotated[
        Path | None, typer.Option(help="File (.npz) for labels and scores of the evaluation examples.")
    ] = None,
    checkpoints: Annotated[
        Path | None,
        typer.Option(
            parser=path_or_url,
            help="Folder for checkpoints, from which a later run continues; with TF_CONFIG the same for all.",
        ),
    ] = None,
    start: StartOption = None,
    mode: ModeOption = None,
    backup: BackupOption = None,
    lost_shards: Annotated[str | None, typer.Option(hidden=True)] = None,
    as_json: AsJson = False,
) -> None:
    """Trains on a click log or prepared data, evaluates on later examples, and exports.

    With TF_CONFIG in the environment it is instead one process of a distributed run on existing records.
    """
    with fail_clearly():
        member = read_tf_config(os.environ)
        if member is not None:
            check_options(context, "with TF_CONFIG")
            play_role(
                *member,
                config=distributed_config(config, mode, backup),
                spec_path=spec,
                records=records,
                checkpoints=checkpoints,
                start_path=start,
                export_to=export_to,
                version=version,
                lost_shards=lost_shards,
            )
            return
        check_options(context, "without TF_CONFIG")
        check_log_or_prepared(context, log, prepared)
        if (baseline or predictions is not None) and (judge_by == "none" or (log is not None and holdout == 0)):
            option, without = (
                "--predictions" if predictions else "--baseline",
                "--holdout 0" if log else "--judge-by none",
            )
            raise ConfigError(f"{option}: there are no evaluation examples with {without}")
        _train(
            log=log,
            prepared=prepared,
            judge_by=judge_by,
            config_path=config,
            spec_path=spec,
            records=records,
            export_to=export_to,
            version=version,
            holdout=holdout,
            negative_sampling_rate=negative_sampling_rate,
            baseline=baseline,
            predictions=predictions,
            checkpoints=checkpoints,
            start_path=start,
            as_json=as_json,
        )


def _train(
    *,
    log: Path | None,
    prepared: Path | None,
    judge_by: TrainedJudgeBy,
    config_path: Path,
    spec_path: Path | None,
    records: Path | None,
    export_to: Path | None,
    version: int,
    holdout: float,
    negative_sampling_rate: float,
    baseline: bool,
    predictions: Path | None,
    checkpoints: Path | None,
    start_path: Path | None,
    as_json: bool,
) -> None:
    started = datetime.now(UTC)
    config = TrainingConfig.from_yaml(config_path)
    spec = load_spec(spec_path or config.spec)
    if export_to is not None:
        check_free(export_to, version)
    # Loading TensorFlow takes seconds; a wrong setting must fail before.
    load_tensorflow()
    source = find_start(start_path, checkpoints)
    start = None if source is None else open_start(source, config, spec)
    with tempfile.TemporaryDirectory() as scratch:
        if prepared is not None:
            data = open_prepared(prepared, judge_by, config)
        else:
            assert log is not None
            data = open_log(
                log,
                records or Path(scratch),
                spec,
                config,
                holdout=holdout,
                negative_sampling_rate=negative_sampling_rate,
            )
        check_evaluable(data)
        check_calibration(data.directory, config)
        manifest = data.manifest
        if start is not None:
            print_rate(start, manifest.negative_sampling_rate)
        used = data_of(log, data.directory, manifest, config, holdout=holdout, source=source)
        console.print(f"{manifest.examples:,} examples, {manifest.positives:,} clicks, spec {spec.name} {spec.hash}")
        folder = checkpoints
        if folder is None and config.early_stopping is not None:
            folder = Path(scratch, "checkpoints")
        with unchanged(data.directory):
            model, result = fit(data, spec, config, folder, start=start)
        calibration = calibrate(lambda: model, spec, data.directory, manifest, config)
        # Inside the block, because the baseline reads the records again.
        quality = print_quality(
            model, config, spec, data, baseline=baseline, predictions=predictions, calibration=calibration
        )
        print_coverage(read_coverage(data.directory))
    exported = None
    if export_to is not None:
        exported = export_described(
            model,
            spec,
            config,
            export_to,
            version,
            started=started,
            data=used,
            progress=progress_of(result, used, config),
            processes=Processes(),
            source=source,
            calibration=calibration,
        )
    print_trained(manifest, spec, used, quality, exported, as_json=as_json)


def fit(
    data: "TrainingData",
    spec: "FeatureSpec",
    config: TrainingConfig,
    checkpoints: Path | None,
    *,
    start: "Start | None" = None,
) -> "tuple[Model, TrainResult]":
    """Trains in this process, with the final fit that `config` may have, and prints the outcome.

    Args:
        checkpoints: folder of the run, which early stopping needs.
        start: the model from which the run begins, instead of random weights.

    Raises:
        TrainingError: see `model_training.training.single_process.train_records`.
    """
    from model_training.training.final_fit import final_fit  # noqa: PLC0415 - loads TensorFlow
    from model_training.training.single_process import train_records  # noqa: PLC0415

    manifest, stopping = data.manifest, config.early_stopping
    with _progress(manifest.examples * config.epochs) as report:
        model, result = train_records(
            data.directory, manifest, spec, config, report, checkpoints=checkpoints, start=start
        )
    console.print(_outcome(result, config))
    if stopping is not None and stopping.final_fit and checkpoints is not None and result.best is not None:
        model, result = final_fit(
            data.directory,
            manifest,
            spec,
            config,
            found=result.best,
            checkpoints=checkpoints,
            start=start,
            progress=_progress,
        )
        console.print(f"final fit on training and validation examples: {_work(result)}", soft_wrap=True)
    return model, result


def _work(result: "TrainResult") -> str:
    if not result.steps:
        return "no steps: an earlier run has made all of them"
    speed = f"{result.examples_per_second:,.0f} examples/s"
    return f"{result.steps:,} steps in {result.seconds:.1f} s, {speed}, log loss {result.loss:.4f}"


def _outcome(result: "TrainResult", config: TrainingConfig) -> str:
    outcome = _work(result)
    if config.early_stopping is not None and (best := result.best) is not None:
        outcome += (
            f"; best of validation: {config.early_stopping.metric} {best.value:.4f} after {best.examples:,} examples"
        )
        if best.ends(config.early_stopping):
            outcome += f", stopped after {best.evaluated:,}"
    return outcome


@contextmanager
def _progress(examples: int) -> Iterator[Callable[["Progress"], None]]:
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]} examples/s, loss {task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    with ProgressBar(*columns, console=console) as bar:
        task = bar.add_task("training", total=examples, speed="…", loss="…")

        def report(progress: "Progress") -> None:
            bar.update(task, completed=progress.examples, loss=f"{progress.loss:.4f}")
            speed = bar.tasks[task].speed
            bar.update(task, speed=f"{speed:,.0f}" if speed else "…")

        yield report
