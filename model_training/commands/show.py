"""`model-training show`: how a version was made, from its folder alone."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.table import Column, Table

from model_training.commands.output import AsJson, console, fail_clearly, print_json
from model_training.errors import ConfigError
from model_training.export.versions import fault_of, found_in
from model_training.lineage.lineage import Lineage, Rows, read_lineage
from model_training.lineage.unseen import at
from model_training.publishing.card import Card, CardVerdict, read_card

VersionArgument = Annotated[Path, typer.Argument(help="Folder of a version; or a base path, for its newest version.")]
_OLD = ("config", "seed", "spec", "data", "progress", "processes", "code", "machine", "started_at", "ended_at")


def show(
    version: VersionArgument,
    *,
    as_json: AsJson = False,
) -> None:
    """Shows how a version was made, and the gate's verdicts if it is published."""
    with fail_clearly():
        path = found_version(version)
        lineage, card = read_lineage(path), read_card(path)
        has_spec = card is not None and card.spec is not None
        unknown = [] if lineage is not None else [name for name in _OLD if name != "spec" or not has_spec]
        if as_json:
            content = {
                "path": str(path),
                "lineage": None if lineage is None else lineage.content(),
                "card": None if card is None else card.content,
                "unknown": unknown,
            }
            print_json(content)
            return
        table = Table("", Column(str(path), overflow="fold"))
        for key, value in _rows(lineage, card or Card()):
            table.add_row(key, value)
        console.print(table)
        if unknown:
            console.print(f"an older program made this version; not known: {', '.join(unknown)}", style="yellow")


def found_version(path: Path) -> Path:
    """The folder of a version: `path` itself, or the newest complete version in it.

    Raises:
        ConfigError: it is neither a version nor the base path of one.
        ExportError: the folder cannot be read.
    """
    fault = fault_of(path)
    if fault is None:
        return path
    newest = next((found.path for found in reversed(found_in(path)) if found.fault is None), None)
    if newest is None:
        raise ConfigError(f"{path}: is no version ({fault}), and holds none")
    return newest


def _rows(lineage: Lineage | None, card: Card) -> Iterator[tuple[str, str]]:
    if lineage is not None:
        yield from _of_lineage(lineage)
    elif card.spec is not None:
        yield "feature spec", f"{card.spec.name} {card.spec.hash}"
    yield from _of_card(card)


def _of_lineage(lineage: Lineage) -> Iterator[tuple[str, str]]:
    config = lineage.config
    yield "model", _short(config.get("model"))
    yield "feature spec", f"{lineage.spec_name} {lineage.spec_hash}"
    yield "seed", str(lineage.seed)
    yield (
        "config",
        "\n".join(f"{key}: {_short(value)}" for key, value in config.items() if key not in {"model", "seed"}),
    )
    if lineage.begins_with is not None:
        yield "began with the weights of", f"{lineage.begins_with.path} {lineage.begins_with.sha256}"
    data, progress, processes, machine = lineage.data, lineage.progress, lineage.processes, lineage.machine
    if data is None:
        yield "data", "none: the model was not trained"
    else:
        yield (
            f"data ({data.kind})",
            data.path + ("" if data.manifest_sha256 is None else f"\nmanifest {data.manifest_sha256}"),
        )
        for name, rows in data.splits.items():
            yield name + (", seen" if name in data.seen else ""), _split(rows)
        if data.negative_sampling_rate != 1:
            yield "non-clicks kept in train", f"{data.negative_sampling_rate:g}"
        if never := [name for name, share in data.coverage.items() if not share]:
            yield "features without a value", " ".join(never)
        if data.lost_shards:
            yield "lost shards", " ".join(data.lost_shards)
    if progress is not None:
        best = "" if progress.best_examples is None else f"; best after {progress.best_examples:,}"
        yield "work", f"{progress.steps:,} steps, {progress.examples:,} examples, {progress.epochs:.3g} epochs{best}"
    if processes is not None:
        mode = "" if processes.mode is None else f", {processes.mode}"
        others = f"{processes.servers} servers, {processes.backups} backups" if processes.servers else ""
        yield "processes", ", ".join(filter(None, (f"{processes.computing} ({processes.kind}{mode})", others)))
    seconds = (datetime.fromisoformat(lineage.ended_at) - datetime.fromisoformat(lineage.started_at)).total_seconds()
    yield "time", f"{lineage.started_at} to {lineage.ended_at} ({seconds:,.0f} s)"
    code = lineage.code
    changed = {True: ", with changes", False: "", None: ""}[code.dirty]
    yield "code", code.version + ("" if code.commit is None else f", commit {code.commit}{changed}")
    yield (
        "libraries",
        ", ".join(f"{name} {found}" for name, found in {"python": machine.python, **machine.libraries}.items()),
    )
    yield "machine", f"{machine.cpu} ({machine.architecture}), {machine.cores} cores"
    yield "instruction sets", " ".join(machine.cpu_features)
    if machine.accelerators:
        yield "accelerators", ", ".join(machine.accelerators)
    for name, value in machine.environment.items():
        yield name, value


def _of_card(card: Card) -> Iterator[tuple[str, str]]:
    if card.published_at is not None:
        yield "published", f"{card.published_at}{', forced' if card.forced else ''}"
    for role, found in card.unseen.items():
        yield f"test rows, {role}", found
    for verdict in card.gate.verdicts:
        yield verdict.limit, f"{'holds' if verdict.holds else 'beyond'} {_words(verdict)}"


def _words(verdict: CardVerdict) -> str:
    if verdict.text is not None:
        return verdict.text.partition(": ")[2]
    bound, value = ("not known" if x is None else f"{x:.4g}" for x in (verdict.bound, verdict.value))
    return f"{bound}: {value}"  # of an older version


def _split(rows: Rows) -> str:
    rate = rows.clicks / max(1, rows.examples)
    times = "" if rows.first_ms is None or rows.last_ms is None else f"\n{at(rows.first_ms)} to {at(rows.last_ms)}"
    return f"{rows.examples:,} examples, {rows.clicks:,} clicks ({rate:.3%}){times}\n{rows.sha256}"


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(inner)}" for key, inner in value.items())
    return orjson.dumps(value).decode()
