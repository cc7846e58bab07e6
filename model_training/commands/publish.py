"""`model-training publish`: applies the gate, and publishes the new version."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_training.commands.compared import Bar, Comparison, RowOptions
from model_training.commands.data import HoldoutOption, JudgeByOption, LogOption, PreparedOption, check_log_or_prepared
from model_training.commands.evaluate import (
    AlsoPreparedOption,
    CandidateArgument,
    GateOption,
    ReportOption,
    UserOption,
    show,
    write_report,
)
from model_training.commands.label import ModelConfigOption
from model_training.commands.lineage import Unseen
from model_training.commands.output import AsJson, console, fail_clearly, print_json
from model_training.config.gate import GateConfig
from model_training.config.packaged import GATE
from model_training.config.training import load_spec
from model_training.data.manifest import load_manifest
from model_training.errors import ConfigError
from model_training.lineage.lineage import read_lineage
from model_training.runtime import load_tensorflow
from model_training.urls import path_or_url

if TYPE_CHECKING:
    from model_training.publishing.gate import Verdict

_REJECTED = 3


def publish(
    context: typer.Context,
    candidate: CandidateArgument,
    *,
    to: Annotated[Path, typer.Option(parser=path_or_url, help="Base path of the served versions.")],
    log: LogOption = None,
    prepared: PreparedOption = None,
    also_prepared: AlsoPreparedOption = None,
    judge_by: JudgeByOption = "test",
    holdout: HoldoutOption = 0.1,
    user_path: UserOption = None,
    gate: GateOption = GATE,
    spec: Annotated[Path | None, typer.Option(help="Feature spec that the candidate must have.")] = None,
    version: Annotated[int | None, typer.Option(help="Version number; by default the newest + 1.")] = None,
    keep: Annotated[int, typer.Option(min=2, help="Number of versions that remain, including the new one.")] = 3,
    force: Annotated[
        bool,
        typer.Option(
            help="Publish a rejected candidate too, and one that has seen the test rows; the model card records it."
        ),
    ] = False,
    label: Annotated[str | None, typer.Option(help="Label for the new version, such as stable.")] = None,
    model_config: ModelConfigOption = None,
    report: ReportOption = None,
    as_json: AsJson = False,
) -> None:
    """Publishes a candidate that passes the gate against the newest version; else exit status 3."""
    with fail_clearly():
        if (label is None) is not (model_config is None):
            raise ConfigError("--label and --model-config must be used together")
        limits = GateConfig.from_yaml(gate)
        expected = None if spec is None else load_spec(spec)
        load_tensorflow()
        from model_training.publishing.gate import corrected_confidence, decide, is_better  # noqa: PLC0415
        from model_training.publishing.publish import Labelling  # noqa: PLC0415
        from model_training.publishing.publish import publish as put  # noqa: PLC0415
        from model_training.publishing.tries import record_try  # noqa: PLC0415

        check_log_or_prepared(context, log, prepared)
        options = RowOptions(log, prepared, also_prepared or (), judge_by, holdout, user_path)
        unseen = Unseen(log=log, prepared=prepared, judge_by=judge_by, holdout=holdout, force=force)
        unseen.check("candidate", candidate)
        with console.status("loading and scoring"):
            comparison = Comparison(candidate, options, expected=expected)
            served = comparison.served(to, force=force)
            unworkable = served.servable is None and bool(served.found)
            if unworkable and not force:
                raise ConfigError(
                    f"--to {to}: has versions, but none that works to compare with; --force publishes without"
                )
            bar = Bar()
            if served.found:
                newest = served.found[-1].path if served.servable is None else served.servable.path
                bar = comparison.best(newest, served.servable, limits.window_days, datetime.now(UTC))
            for role, compared in (("served", served.servable), ("best", bar.servable)):
                if compared is not None:
                    unseen.check(role, compared.path)
            found = comparison.evaluate(served.servable, bar.servable)
        # Recorded before any figure is shown: a try counts even if this process is killed after it.
        tries = record_try(to, found.split, comparison.candidate.path)
        confidence = corrected_confidence(limits.confidence, tries)
        show(found, confidence)
        console.print(f"candidate {tries} on these examples: intervals of {confidence:.2%}")
        verdicts = decide(found, limits, confidence)
        for verdict in verdicts:
            _print(verdict)
        forced = force and (unworkable or not (all(v.holds for v in verdicts) and unseen.holds))
        best = bar.best
        if limits.window_days == 0 or (bar.is_compared and is_better(found, confidence) and not forced):
            best = None
        card = {
            "gate": {
                "limits": limits.model_dump(mode="json"),
                "tries": tries,
                "confidence": confidence,
                "verdicts": [{**asdict(v), "text": str(v)} for v in verdicts],
            },
            "evaluation": asdict(found),
            "forced": forced,
            "unseen": unseen.found,
            "skipped": [*served.broken, *bar.skipped],
            "lineage": None if (lineage := read_lineage(candidate)) is None else lineage.content(),
            "data": str(log) if prepared is None else load_manifest(prepared),
        }
        if report is not None:
            write_report(report, card)
        if not force and not all(v.holds for v in verdicts):
            console.print("rejected: nothing is published", style="red")
            _end(card, None, (), as_json=as_json)
            raise typer.Exit(_REJECTED)
        labelling = None if label is None or model_config is None else Labelling(model_config, label)
        path, removed = put(
            comparison.candidate,
            to,
            card,
            seen=served.found,
            best=best,
            keeps_former=unworkable,
            version=version,
            keep=keep,
            labelling=labelling,
        )
        console.print(f"published {path}{f' as {label}' if label else ''}", style="green", soft_wrap=True)
        _end(card, path, removed, as_json=as_json)


def _end(card: Mapping[str, object], published: Path | None, removed: Sequence[int], *, as_json: bool) -> None:
    if removed:
        console.print(f"removed versions {', '.join(map(str, removed))}")
    if as_json:
        print_json({**card, "published": None if published is None else str(published), "removed": removed})


def _print(verdict: "Verdict") -> None:
    sign = "[green]holds [/green]" if verdict.holds else "[red]beyond[/red]"
    console.print(f"{sign} {verdict}", soft_wrap=True)
