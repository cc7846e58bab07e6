"""`model-training evaluate`: compares a candidate with the served version."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer
from rich.table import Table

from model_training.commands.data import (
    HoldoutOption,
    JudgeBy,
    JudgeByOption,
    LogOption,
    PreparedOption,
    check_log_or_prepared,
)
from model_training.commands.judged_rows import JudgedRows
from model_training.commands.lineage import check_unseen
from model_training.commands.output import console, fail_clearly
from model_training.config.gate import GateConfig
from model_training.errors import ConfigError, DataError, ExportError, TrainingError
from model_training.runtime import load_tensorflow
from model_training.urls import path_or_url

if TYPE_CHECKING:
    from model_training.data.examples import Examples
    from model_training.export.servable import Servable
    from model_training.export.served import Served
    from model_training.publishing.evaluation import Evaluation, ModelEvaluation
    from streamer.features import FeatureSpec

CandidateArgument = Annotated[Path, typer.Argument(parser=path_or_url, help="Folder of an exported version.")]
GateOption = Annotated[Path, typer.Option(help="Limits of the gate, and the settings of intervals.")]
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
GATE = Path("configs/gate.yaml")


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
) -> None:
    """Compares an exported version with the served one, on later examples that neither has seen."""
    with fail_clearly():
        limits = GateConfig.from_yaml(gate)
        load_tensorflow()
        served = None
        if against is not None:
            from model_training.export.servable import Servable  # noqa: PLC0415

            is_version = (against / "saved_model.pb").exists()
            served = Servable.load(against) if is_version else served_version(against).servable
            if served is None:
                raise ConfigError(f"--against {against}: has no version that can be loaded")
        check_log_or_prepared(context, log, prepared)
        roles = {"candidate": candidate} | ({} if served is None else {"served": served.path})
        check_unseen(roles, log=log, prepared=prepared, judge_by=judge_by, holdout=holdout)
        _, found = evaluated(
            context,
            candidate,
            served,
            log=log,
            prepared=prepared,
            also_prepared=also_prepared or (),
            judge_by=judge_by,
            holdout=holdout,
            user_path=user_path,
        )
        show(found, limits.confidence)
        if report is not None:
            write_report(report, asdict(found))


def served_version(base_path: Path) -> "Served":
    """The newest version that works, if there is one; names newer ones that are broken.

    Raises:
        ExportError: the folder cannot be read.
    """
    from model_training.export.served import Served  # noqa: PLC0415

    served = Served.of(base_path)
    for broken in served.broken:
        console.print(f"{broken}; skipped, but servers try to load it", style="yellow", markup=False, soft_wrap=True)
    return served


def evaluated(
    context: typer.Context,
    candidate: Path,
    served: "Servable | None",
    *,
    best: Path | None = None,
    force: bool = False,
    log: Path | None,
    prepared: Path | None,
    also_prepared: Sequence[Path],
    judge_by: JudgeBy,
    holdout: float,
    user_path: str | None,
    expected: "FeatureSpec | None" = None,
) -> tuple["Servable", "Evaluation"]:
    """Loads the versions, encodes the examples with each version's spec, and evaluates.

    Args:
        context: the context of the command that has these options.
        best: the best version of the window, if it is not the served one; it is left out if it cannot be compared.
        force: leave out a served version too that cannot be compared.
        expected: the spec that the candidate must have.

    Raises:
        TrainingError: see `model_training.publishing.candidate.evaluate`.
    """
    check_log_or_prepared(context, log, prepared)
    from model_training.data.training_data import later_lines  # noqa: PLC0415
    from model_training.export.servable import Servable  # noqa: PLC0415
    from model_training.publishing.candidate import evaluate as evaluate_candidate  # noqa: PLC0415

    def examples(spec: "FeatureSpec") -> "Examples":
        if prepared is not None:
            return JudgedRows(prepared, also_prepared, judge_by).examples(spec)
        assert log is not None
        return later_lines(log, spec, holdout=holdout, user_path=user_path)

    with console.status("loading and scoring"):
        model = Servable.load(candidate)
        if expected is not None and model.spec.hash != expected.hash:
            raise ExportError(f"{candidate}: has spec {model.spec.hash}, expected {expected.hash}")
        by_spec = {model.spec.hash: examples(model.spec)}
        if served is not None:
            try:
                if served.spec.hash not in by_spec:
                    by_spec[served.spec.hash] = examples(served.spec)
                rows = by_spec[served.spec.hash]
                served.scores(rows.ids, rows.floats)
            except TrainingError as error:
                if not force:
                    raise
                served = None
                console.print(f"the served version is not compared: {error}", style="yellow", markup=False)
        former = None
        if best is not None:
            try:
                former = Servable.load(best)
                if former.spec.hash not in by_spec:
                    by_spec[former.spec.hash] = examples(former.spec)
                rows = by_spec[former.spec.hash]
                former.scores(rows.ids, rows.floats)
            except TrainingError as error:
                former = None
                console.print(f"the best version of the window is not compared: {error}", style="yellow", markup=False)
        found = evaluate_candidate(model, served, by_spec, best=former)
    return model, found


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
