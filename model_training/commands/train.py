"""`model-training train`: takes a log or prepared data, trains, judges, exports."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from rich.table import Table

from model_training.commands.output import console, export_described, fail_clearly, load_tensorflow
from model_training.config import TrainingConfig, load_spec

JudgeBy = Literal["validation", "test"]

if TYPE_CHECKING:
    from model_training.metrics import Quality
    from model_training.train import Progress
    from streamer.types import F32


def train(
    *,
    log: Annotated[
        Path | None, typer.Option(help="Click log: JSON lines, one a request; may be compressed by gzip.")
    ] = None,
    prepared: Annotated[
        Path | None, typer.Option(help="Folder that `prepare` made; its manifest knows the sampling rate.")
    ] = None,
    config: Annotated[Path, typer.Option(help="Model config.")] = Path("configs/models/wide_deep.yaml"),
    spec: Annotated[Path | None, typer.Option(help="Feature spec; by default the one that the config names.")] = None,
    records: Annotated[Path | None, typer.Option(help="Folder to keep the encoded records in.")] = None,
    export_to: Annotated[Path | None, typer.Option(help="Base path of the model's versions.")] = None,
    version: Annotated[int, typer.Option(help="Version to export as.")] = 1,
    judge_by: Annotated[JudgeBy, typer.Option(help="Split of prepared data to judge the model by.")] = "validation",
    holdout: Annotated[float, typer.Option(help="Share of the log, its last lines, to judge the model by.")] = 0.1,
    negative_sampling_rate: Annotated[float, typer.Option(help="Share of the non-clicks that the log kept.")] = 1.0,
    baseline: Annotated[bool, typer.Option(help="Judge a logistic regression without crosses too.")] = False,
    predictions: Annotated[
        Path | None, typer.Option(help="File (.npz) for the labels and scores of the lines judged by.")
    ] = None,
) -> None:
    """Trains a model on a click log or prepared data, judges it on what came later and exports it."""
    if (log is None) is (prepared is None):
        raise typer.BadParameter("give either --log or --prepared")
    with fail_clearly():
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
        )


def _train(
    *,
    log: Path | None,
    prepared: Path | None,
    judge_by: JudgeBy,
    config_path: Path,
    spec_path: Path | None,
    records: Path | None,
    export_to: Path | None,
    version: int,
    holdout: float,
    negative_sampling_rate: float,
    baseline: bool,
    predictions: Path | None,
) -> None:
    config = TrainingConfig.from_yaml(config_path)
    spec = load_spec(spec_path or config.spec)
    # Only now: loading TensorFlow takes seconds, and a mistyped setting should not.
    load_tensorflow()
    from model_training import workflow  # noqa: PLC0415
    from model_training.metrics import evaluate, recalibrated  # noqa: PLC0415
    from model_training.train import predict  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as scratch:
        if log is not None:
            with console.status(f"encoding {log}"):
                data = workflow.split_log(
                    log, records or Path(scratch), spec, holdout=holdout, negative_sampling_rate=negative_sampling_rate
                )
        else:
            assert prepared is not None
            data = workflow.open_prepared(prepared, judge_by, max_lost_share=config.max_lost_share)
        manifest = data.manifest
        if data.damage is not None and data.damage.shards:
            console.print(f"lost {data.damage.examples:,} examples of damaged shards: {', '.join(data.damage.shards)}")
        console.print(f"{manifest.examples:,} examples, {manifest.positives:,} clicks, spec {spec.name} {spec.hash}")
        with _progress(manifest.examples * config.epochs) as report:
            model, result = workflow.train_records(data.directory, manifest, spec, config, report)
    console.print(
        f"{result.steps:,} steps in {result.seconds:.1f} s, {result.examples_per_second:,.0f} examples/s,"
        f" log loss {result.loss:.4f}"
    )
    unseen = data.holdout
    if len(unseen.labels):
        scores: dict[str, F32] = {config.model.kind: predict(model, spec, unseen.ids, unseen.floats)}
        if baseline:
            scores["baseline"] = workflow.predict_baseline(spec, data.training(), unseen)
        scores = {name: recalibrated(ctr, data.holdout_sampling_rate) for name, ctr in scores.items()}
        console.print(_table({name: evaluate(unseen.labels, ctr) for name, ctr in scores.items()}))
        if predictions is not None:
            workflow.write_predictions(predictions, unseen, scores)
    if export_to is not None:
        export_described(model, spec, export_to, version, negative_sampling_rate=manifest.negative_sampling_rate)


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


def _table(qualities: dict[str, "Quality"]) -> Table:
    table = Table("model", "examples", "clicks", "AUC", "log loss", "calibration")
    for name, q in qualities.items():
        figures = (f"{q.examples:,}", f"{q.positives:,}", f"{q.auc:.4f}", f"{q.log_loss:.4f}", f"{q.calibration:.3f}")
        table.add_row(name, *figures)
    return table
