"""`streamer check-config`: validates the settings, also against brokers and models."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import BaseModel

from streamer.commands.local_files import check_files
from streamer.commands.options import AsJson, Config
from streamer.diagnosis.findings import Finding
from streamer.diagnosis.kafka import compaction
from streamer.diagnosis.registry import registry_findings
from streamer.errors import ConfigError, PredictError, StreamerError, UnreachableError
from streamer.settings import Settings, load_settings
from streamer.settings.names import printable

if TYPE_CHECKING:
    from rich.table import Table

    from streamer.prepared_version import PreparedVersion
    from streamer.serving.predictor import Predictor

_RETRIES_S, _RETRY_S = 10.0, 1.0


def check_config(
    config: Config = None,
    live: Annotated[
        bool, typer.Option("--live", help="Also check the topics, the group, the models and the schema registry.")
    ] = False,
    *,
    as_json: AsJson = False,
) -> None:
    """Validate and show the settings, and read the files that they name.

    Exit status 2 if one is wrong.
    """
    from rich.console import Console  # noqa: PLC0415

    settings = load_settings(config)
    if not live:
        check_files(settings)
    console = Console(markup=False)
    failures, lines = asyncio.run(_probe(settings)) if live else ([], [])
    if as_json:
        content = {"settings": settings.model_dump(mode="json"), "failures": failures, "found": lines}
        typer.echo(json.dumps(content))
        raise typer.Exit(2 if failures else 0)
    if failures:
        for failure in failures:
            line = printable(f"streamer: {failure}")
            Console(stderr=True, markup=False, highlight=False).print(line, soft_wrap=True)
    else:
        console.print(_table(settings))
    for line in lines:
        console.print(printable(line), highlight=False, soft_wrap=True)
    if failures:
        raise typer.Exit(2)
    console.print("settings are valid", highlight=False)


def _table(settings: Settings) -> "Table":
    from rich.table import Table  # noqa: PLC0415

    table = Table("setting", "value", box=None)
    for section, values in settings:
        assert isinstance(values, BaseModel)
        for name, value in values:
            default = type(values).model_fields[name].default
            table.add_row(f"{section}.{name}", str(value), style=None if value == default else "bold")
    return table


async def _probe(settings: Settings) -> tuple[list[str], list[str]]:
    """Runs all probes; returns the failures, and what the other probes have found."""
    models = (_model(settings, name) for name in settings.predictor.models)
    found = await asyncio.gather(
        _files(settings), _proxies(settings), _topics(settings), _registry(settings), *models, return_exceptions=True
    )
    # Brokers that do not answer about topics do not answer about the group.
    _, _, topics, *_ = found
    if not isinstance(topics, UnreachableError):
        found += await asyncio.gather(_rights(settings), _membership(settings), return_exceptions=True)
    failures: dict[str, None] = {}  # each line once: a file that cannot be read fails several probes
    lines: list[str] = []
    for outcome in found:
        if isinstance(outcome, StreamerError):
            failures |= dict.fromkeys(str(outcome).splitlines())
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            lines += outcome
    return list(failures), lines


async def _files(settings: Settings) -> list[str]:
    check_files(settings)
    return []


async def _proxies(settings: Settings) -> list[str]:
    from streamer.commands.live_model import proxied  # noqa: PLC0415

    return proxied(settings)


async def _topics(settings: Settings) -> list[str]:
    from streamer.kafka import facts, topics  # noqa: PLC0415

    await topics.check_topics(settings, topics.required_topics(settings))
    lines = [f"brokers at {settings.kafka.bootstrap_servers}: all topics are there"]
    if (ads := settings.ads.topic) is not None:
        found = (await facts.topic_facts(settings, [ads])).topics[ads]
        findings = () if found is None else compaction(ads, found)
        lines += map(_line, findings)
    return lines


async def _registry(settings: Settings) -> list[str]:
    """The subjects of the registry of the settings, if they name one."""
    if settings.registry.url is None:
        return []
    from streamer.schema_registry.facts import subject_facts  # noqa: PLC0415

    try:
        subjects = await subject_facts(settings)
    except UnreachableError as error:
        raise UnreachableError(f"{error}; start it, or correct registry.url") from error
    if findings := list(registry_findings(subjects)):
        raise ConfigError("\n".join(map(_line, findings)))
    shown = (
        f"subject {name}: {'not registered yet' if found.version is None else f'version {found.version} fits'}"
        for name, found in subjects.items()
    )
    return [f"schema registry at {settings.registry.url}: {'; '.join(shown)}"]


def _line(finding: Finding) -> str:
    return f"{finding.severity}: {finding.subject}: {finding.reason}; {finding.remedy}"


async def _rights(settings: Settings) -> list[str]:
    from streamer.kafka import groups  # noqa: PLC0415

    await _when_ready(groups.check_group, settings)
    return []


async def _membership(settings: Settings) -> list[str]:
    from streamer.kafka import groups  # noqa: PLC0415

    await _when_ready(groups.check_membership, settings)
    return [f"group {settings.kafka.group_id}: a member would be accepted"]


async def _when_ready(check: Callable[[Settings], Awaitable[None]], settings: Settings) -> None:
    """A new cluster creates the topic for its groups at the first query."""
    retry_until = time.monotonic() + _RETRIES_S
    while True:
        try:
            return await check(settings)
        except UnreachableError:
            if time.monotonic() > retry_until:
                raise
            await asyncio.sleep(_RETRY_S)


async def _scores(predictor: "Predictor", settings: Settings, serving: "PreparedVersion") -> None:
    """Scores an ad without values: a signature does not tell which Examples it parses."""
    from streamer.serving.warmup import blank_rows  # noqa: PLC0415

    try:
        await predictor.score(serving.version, blank_rows(serving, 1), settings.predictor.control_timeout_ms / 1e3)
    except PredictError as error:
        advice = "if it lacks a value, give the feature a `default`"
        raise ConfigError(
            f"predictor: {serving.version} cannot score an ad without values: {error}; {advice}"
        ) from error


async def _model(settings: Settings, name: str) -> list[str]:
    from streamer.commands.live_model import connected, served  # noqa: PLC0415

    async with connected(settings) as predictor:
        serving, versions = await served(predictor.control, settings, name)
        if serving.version.flat is not None:
            await _scores(predictor, settings, serving)
    spec, numbers = serving.encoder.spec, ", ".join(map(str, versions))
    label = settings.predictor.labels.get(name)
    led_to = "" if label is None else f"; label {label} leads to {serving.version.version}"
    return [f"model {name}: versions {numbers}{led_to}; spec {spec.name}, hash {spec.hash}"]
