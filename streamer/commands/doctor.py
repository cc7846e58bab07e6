"""`streamer doctor`: reads all services of the settings, and names bad settings."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamer import native
from streamer.commands.model import ask
from streamer.commands.options import Config
from streamer.diagnosis.facts import KafkaFacts, ModelFacts, Roles, SubjectFacts
from streamer.diagnosis.findings import SEVERITIES, Finding
from streamer.diagnosis.installation import native_finding
from streamer.diagnosis.kafka import kafka_findings
from streamer.diagnosis.registry import registry_findings
from streamer.diagnosis.server_flags import flag_findings, parse_flags
from streamer.diagnosis.servers import model_findings, thread_finding
from streamer.errors import ConfigError, PredictError, StreamerError
from streamer.serving.concurrency import START_CALLS
from streamer.settings import Settings, load_settings
from streamer.settings.names import printable

if TYPE_CHECKING:
    from streamer.serving.control import Control

_BURST_S = 1.0


@dataclass(slots=True)
class _Read:
    """What was read. A part that could not be read is a finding itself."""

    kafka: KafkaFacts | None = None
    subjects: Mapping[str, SubjectFacts] = field(default_factory=dict)
    models: dict[str, Mapping[str, ModelFacts]] = field(default_factory=dict)
    roles: dict[str, Roles] = field(default_factory=dict)
    bursts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    failures: list[Finding] = field(default_factory=list)


def doctor(
    config: Config = None,
    *,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes of the group. Default: of its members, or the settings.")
    ] = None,
    server_flags: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Command line of the model server; no call can read it.")
    ] = None,
    ops: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="A worker's operations port: checks its pinned versions.")
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Send 1 s of concurrent status calls, to find the servers' thread limit.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as a JSON array.")] = False,
) -> None:
    """Name bad settings of the model servers, topics, group and schema registry.

    Exit status 1 if there is an error or a warning, 0 otherwise: advice depends on facts that no call can read.
    """
    settings = load_settings(config)
    try:
        flags = None if server_flags is None else parse_flags(server_flags)
    except ValueError as error:
        raise ConfigError(f"--server-flags: {error}") from error
    pinned = {} if ops is None else ask("GET", "/model", settings.ops, ops, _pinned)
    read = asyncio.run(_read(settings, workers, probe))
    group = workers or _workers(settings, read.kafka)
    found = sorted(_findings(settings, read, group, flags, pinned), key=lambda f: SEVERITIES.index(f.severity))
    _show(found, group, as_json)
    raise typer.Exit(1 if any(finding.severity != "advice" for finding in found) else 0)


def _findings(
    settings: Settings, read: _Read, workers: int, flags: Mapping[str, str] | None, pinned: Mapping[str, int]
) -> Iterator[Finding]:
    callers = _callers(settings, workers)
    yield from read.failures
    if read.kafka is not None:
        yield from kafka_findings(settings, read.kafka, workers)
    yield from registry_findings(read.subjects)
    for model, servers in read.models.items():
        roles = read.roles[model]
        if model in pinned:
            roles = replace(roles, pinned={**roles.pinned, "pinned": pinned[model]})
        yield from model_findings(model, servers, roles)
    for address, outcomes in read.bursts.items():
        if (finding := thread_finding(address, outcomes, callers)) is not None:
            yield finding
    yield from flag_findings(settings, flags, callers)
    if (advice := native_finding(native.state, is_used=native.module is not None)) is not None:
        yield advice


def _show(found: list[Finding], workers: int, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in found], indent=2))
        return
    from rich.console import Console  # noqa: PLC0415

    console = Console(markup=False, highlight=False, soft_wrap=True)
    for finding in found:
        console.print(printable(f"{finding.severity}: {finding.subject}: {finding.reason}"))
        console.print(printable(f"    {finding.remedy}"))
    counts = ", ".join(f"{sum(f.severity == s for f in found)} {s}" for s in SEVERITIES)
    console.print(f"{counts}; for {workers} worker{'s' * (workers > 1)}")


def _workers(settings: Settings, kafka: KafkaFacts | None) -> int:
    """Processes that read: each member of the group is one worker, or a supervisor with several."""
    members = 1 if kafka is None or not kafka.members else kafka.members
    return members * settings.supervisor.active


def _callers(settings: Settings, workers: int) -> int:
    """Concurrent calls that so many workers start with on one server."""
    return workers * min(START_CALLS, settings.batching.max_concurrent_calls)


def _pinned(models: Any) -> dict[str, int]:
    """Pinned version by model, from `/model` of a worker, or of each worker of a supervisor."""
    parts = [part for each in models for part in (each["models"] if "worker" in each else [each])]
    return {part["model"]: part["pinned"] for part in parts if part["pinned"] is not None}


async def _read(settings: Settings, workers: int | None, probe: bool) -> _Read:
    read = _Read()
    parts = {
        "Kafka": _read_kafka(settings, read),
        "schema registry": _read_registry(settings, read),
        "model servers": _read_servers(settings, read),
    }
    outcomes = await asyncio.gather(*parts.values(), return_exceptions=True)
    for subject, outcome in zip(parts, outcomes, strict=True):
        if isinstance(outcome, StreamerError):
            read.failures.append(Finding("error", subject, str(outcome), "correct what it names, and ask again"))
        elif outcome is not None:
            raise outcome
    if probe:
        from streamer.commands.live_model import connected  # noqa: PLC0415

        callers = _callers(settings, workers or _workers(settings, read.kafka))
        async with connected(settings) as predictor:
            await predictor.control.states(settings.predictor.models[0])  # resolves names and connects
            read.bursts = await predictor.control.burst(settings.predictor.models[0], callers, _BURST_S)
    return read


async def _read_kafka(settings: Settings, read: _Read) -> None:
    from streamer.kafka import facts, groups, topics  # noqa: PLC0415

    read.kafka = await facts.topic_facts(settings, list(topics.required_topics(settings)))
    read.kafka = await facts.with_clocks(settings, read.kafka)
    for check in (groups.check_group, groups.check_membership):
        await check(settings)
    read.kafka = replace(read.kafka, members=await groups.members(settings))


async def _read_registry(settings: Settings, read: _Read) -> None:
    if settings.registry.url is not None:
        from streamer.schema_registry.facts import subject_facts  # noqa: PLC0415

        read.subjects = await subject_facts(settings)


async def _read_servers(settings: Settings, read: _Read) -> None:
    from streamer.commands.live_model import connected  # noqa: PLC0415

    async with connected(settings) as predictor:
        for model in settings.predictor.models:
            await _read_model(settings, predictor.control, model, read)


async def _read_model(settings: Settings, servers: "Control", model: str, read: _Read) -> None:
    """Reads states and label, and makes one call of the serving version on each server."""
    from streamer.commands.live_model import served  # noqa: PLC0415
    from streamer.serving.warmup import blank_rows  # noqa: PLC0415

    states = await servers.states(model)
    label, errors = settings.predictor.labels.get(model), dict[str, str]()
    roles = Roles()
    try:
        if label is not None:
            roles = Roles({f"label {label}": await servers.labelled(model, label)})
    except PredictError as error:
        roles = Roles(label_errors={label or "": str(error)})
    is_available = any(
        state.state == "AVAILABLE" for found in states.values() if isinstance(found, list) for state in found
    )
    if is_available and not roles.label_errors:
        try:
            prepared, _ = await served(servers, settings, model)
            # Two candidates of one request: their inputs differ in rows.
            shown = await servers.show(
                prepared.version, blank_rows(prepared, 2), has_spec=model not in settings.predictor.spec_files
            )
            errors = {address: str(outcome) for address, outcome in shown.items() if isinstance(outcome, PredictError)}
        except StreamerError as error:
            errors = dict.fromkeys(states, str(error))
    read.roles[model] = roles
    read.models[model] = {
        address: ModelFacts(str(found) if isinstance(found, PredictError) else found, errors.get(address, ""))
        for address, found in states.items()
    }
