"""`model-training evaluate`: compares a candidate with the served version."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer
from rich.table import Table

from model_training.commands.compared import Comparison, RowOptions
from model_training.commands.data import (
    HoldoutOption,
    JudgeByOption,
    LogOption,
    PreparedOption,
    check_log_or_prepared,
)
from model_training.commands.lineage import Unseen
from model_training.commands.output import AsJson, console, fail_clearly, print_json
from model_training.config.gate import GateConfig
from model_training.config.packaged import GATE
from model_training.errors import ConfigError, DataError
from model_training.runtime import load_tensorflow
from model_training.urls import path_or_url

if TYPE_CHECKING:
    from model_training.export.servable import Servable
    from model_training.publishing.evaluation import Evaluation, ModelEvaluation

CandidateArgument = Annotated[Path, typer.Argument(parser=path_or_url, help="Folder of an exported version.")]
GateOption = Annotated[
    Path,
    typer.Option(
        help="Limits of the gate, and the settings of intervals.", show_default="configs/gate.yaml in the package"
    ),
]
UserOption = Annotated[
    str | None, typer.Option(help="Path of the user's id in the requests of --log, such as user.id: adds GAUC by user.")
]
AlsoPreparedOption = Annotated[
    list[Path] | None,
    typer.Option(
        help="The same rows as --prepared, prepared with the spec of a compared version; without it, they are encoded"
        " again from the log."
    ),
]
ReportOption = Annotated[Path | None, typer.Option(help="JSON file for all figures.")]


def evaluate(
    context: typer.Context,
    candidate: CandidateArgument,
    *,
    against: Annotated[
        Path | None,
        typer.Option(
            parser=path_or_url, help="Folder of the served version; or the base path, for its newest version."
        ),
    ] = None,
    log: LogOption = None,
    prepared: PreparedOption = None,
    also_prepared: AlsoPreparedOption = None,
    judge_by: JudgeByOption = "test",
    holdout: HoldoutOption = 0.1,
    user_path: UserOption = None,
    gate: GateOption = GATE,
    report: ReportOption = None,
    as_json: AsJson = False,
) -> None:
    """Compares an exported version with the served one, on later examples that neither has seen."""
    with fail_clearly():
        limits = GateConfig.from_yaml(gate)
        check_log_or_prepared(context, log, prepared)
        load_tensorflow()
        options = RowOptions(log, prepared, also_prepared or (), judge_by, holdout, user_path)
        unseen = Unseen(log=log, prepared=prepared, judge_by=judge_by, holdout=holdout)
        unseen.check("candidate", candidate)
        with console.status("loading and scoring"):
            comparison = Comparison(candidate, options)
            served = None if against is None else _served(comparison, against)
            if served is not None:
                unseen.check("served", served.path)
            found = comparison.evaluate(served)
        show(found, limits.confidence)
        if as_json:
            print_json(asdict(found))
        if report is not None:
            write_report(report, asdict(found))


def _served(comparison: Comparison, against: Path) -> "Servable":
    """The version at a path, or the newest version in it that works on the rows.

    Raises:
        ConfigError: there is none.
        TrainingError: it cannot be compared.
    """
    from model_training.export.servable import Servable  # noqa: PLC0415 - loads TensorFlow

    if (against / "saved_model.pb").exists():
        servable = Servable.load(against)
        comparison.check(servable)
        return servable
    served = comparison.served(against).servable
    if served is None:
        raise ConfigError(f"--against {against}: has no version that can be loaded")
    return served


def show(found: "Evaluation", confidence: float) -> None:
    """Prints the figures of both models side by side."""
    console.print(f"{found.examples:,} examples, {found.clicks:,} clicks")
    for what, number, without in (
        ("users", found.groups.users, found.groups.without_user),
        ("requests", found.groups.requests, found.groups.without_request),
    ):
        rest = f"; {without:,} examples have no {what[:-1]} id and count in no GAUC by {what[:-1]}" if without else ""
        console.print(f"{what} are not known" if number is None else f"{number:,} {what}{rest}")
    table = Table("", "candidate", "served", "candidate - served")
    rows = {
        "AUC": ("auc", "z.4f"),
        "GAUC": ("gauc", "z.4f"),
        "GAUC by request": ("request_gauc", "z.4f"),
        "log loss": ("log_loss", "z.4f"),
        "normalised entropy": ("normalised_entropy", "z.4f"),
        "sum of scores / clicks": ("calibration", "z.3f"),
    }
    for title, (name, form) in rows.items():
        own, difference = found.estimates.get(name), found.differences.get(name)
        if own is not None and difference is not None:
            low, high = difference.interval(confidence)
            served = f"{own.value - difference.value:{form}}"
            table.add_row(title, f"{own.value:{form}}", served, f"{low:+{form}} to {high:+{form}}")
        elif own is not None:
            low, high = own.interval(confidence)
            table.add_row(title, f"{own.value:{form}} ({low:{form}} to {high:{form}})", "", "")

    def row(title: str, name: str, form: str) -> None:
        models: list[ModelEvaluation | None] = [found.candidate, found.served]
        table.add_row(title, *("" if model is None else f"{getattr(model, name):{form}}" for model in models), "")

    row("calibration error", "calibration_error", ".4f")
    for title, name, form in (
        ("uncalibrated log loss", "log_loss", ".4f"),
        ("uncalibrated sum of scores / clicks", "calibration", ".3f"),
        ("uncalibrated calibration error", "calibration_error", ".4f"),
    ):
        before = [None if model is None else model.uncalibrated for model in (found.candidate, found.served)]
        if any(before):
            shown = ("" if figures is None else f"{getattr(figures, name):{form}}" for figures in before)
            table.add_row(title, *shown, "")
    row("300 candidates, median ms", "median_ms", ".2f")
    row("300 candidates, p99 ms", "p99_ms", ".2f")
    row("parameters", "parameters", ",")
    row("bytes", "file_bytes", ",")
    row("dense layers in", "compute", "")
    row("feature spec", "spec_hash", "")
    if (rounding := found.rounding) is not None:
        low, high = rounding.interval(confidence)
        between = f"{low:+z.5f} to {high:+z.5f}"
        table.add_row("AUC - AUC in float32", f"{rounding.value:+z.5f}", "", between)
    if found.score_drift is not None:
        table.add_row("score drift (PSI)", f"{found.score_drift:.4f}", "", "")
    console.print(table)


def write_report(path: Path, content: object) -> None:
    """Writes JSON.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error
