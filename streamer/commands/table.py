"""`streamer table`: shows, counts and checks the topic of ads; shows the lag of tables."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from streamer.ads import AdRecord
from streamer.commands.ads_check import AdsCheck, AdsCount
from streamer.commands.ads_topic import ad_records, ads_topic, encoder_at_hand, form_without_spec
from streamer.commands.dlq import utc_time
from streamer.commands.explain import feature_table
from streamer.commands.explanation import FeatureLine, feature_lines
from streamer.commands.options import AsJson, Config
from streamer.commands.topic_ads import AdsAt, AdState
from streamer.diagnosis.findings import Finding
from streamer.diagnosis.kafka import compaction
from streamer.errors import ConfigError, StreamerError
from streamer.features import Encoder
from streamer.settings import Settings, load_settings
from streamer.settings.names import printable
from streamer.types import BidRequest

if TYPE_CHECKING:
    from streamer.tables.store import StoredTable

app = typer.Typer(no_args_is_help=True, help="Show, count and check the ads of a topic (settings `ads`).")


class Name(StrEnum):
    """The tables."""

    ADS = "ads"


TableName = Annotated[Name, typer.Argument(help="The table.")]
Spec = Annotated[
    Path | None, typer.Option(help="Feature spec (YAML). Default: that of the serving model, if a server answers.")
]


@app.command()
def show(
    table: TableName,
    ad_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the ad.")],
    *,
    spec: Spec = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Show an ad as the topic has it now: place, features, and the model's rows of them.

    Exit status 1 if the topic does not have it.
    """
    settings = load_settings(config)
    state, encoder = asyncio.run(_state(settings, ad_id, spec))
    if state.document is None:
        deleted = "" if state.record is None else f"; {_place(state.record)} deleted it"
        if as_json:
            typer.echo(json.dumps(_shown(ad_id, state, [], None)))
        bad = "" if state.bad is None else f"; {state.bad}"
        raise StreamerError(f"ad {ad_id!r} is not in topic {ads_topic(settings)!r}{deleted}{bad}")
    lines = [] if isinstance(encoder, ConfigError) else _features(encoder, state.document)
    if as_json:
        typer.echo(json.dumps(_shown(ad_id, state, lines, None if isinstance(encoder, ConfigError) else encoder)))
        return
    assert state.record is not None, "a document comes from a record"
    from rich.console import Console  # noqa: PLC0415

    console = Console(highlight=False, markup=False)
    console.print(printable(f"ad {ad_id}: {_place(state.record)}, {utc_time(state.record.timestamp_ms)}"))
    console.print(printable(json.dumps(state.document, indent=2, ensure_ascii=False), keep_lines=True), soft_wrap=True)
    for warning in filter(None, (state.why_unknown, state.bad)):
        console.print(printable(f"warning: {warning}"), soft_wrap=True)
    if isinstance(encoder, ConfigError):
        console.print(printable(f"no model's spec ({encoder}); --spec names a file"), soft_wrap=True)
    else:
        console.print(f"spec {encoder.spec.name}, hash {encoder.spec.hash}")
        console.print(feature_table(lines))


@app.command()
def count(table: TableName = Name.ADS, *, as_json: AsJson = False, config: Config = None) -> None:
    """Count the ads, deleted ads, records and bytes of each partition."""
    settings = load_settings(config)
    counts = [asdict(each) for each in asyncio.run(_counted(settings)).by_partition()]
    total = {name: sum(each[name] for each in counts) for name in ("ads", "tombstones", "records", "bytes")}
    if as_json:
        typer.echo(json.dumps({"topic": ads_topic(settings), "partitions": counts, **total}))
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    shown = Table("partition", *total, box=None)
    for each in counts:
        shown.add_row(str(each["partition"]), *(f"{each[name]:,}" for name in total))
    shown.add_row("all", *(f"{value:,}" for value in total.values()))
    Console(highlight=False).print(shown)


@app.command()
def check(
    table: TableName = Name.ADS,
    *,
    spec: Spec = None,
    limit: Annotated[int, typer.Option(min=0, help="How many bad records and duplicates to list.")] = 20,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Find bad records, ads in several partitions, and a topic that is not compacted.

    Exit status 1 if there is a finding.
    """
    settings = load_settings(config)
    found, of_topic, without_spec = asyncio.run(_checked(settings, spec, limit))
    lines = found.findings(of_topic)
    if as_json:
        typer.echo(json.dumps(found.as_json(ads_topic(settings), of_topic)))
    else:
        from rich.console import Console  # noqa: PLC0415

        console = Console(highlight=False, markup=False, soft_wrap=True)
        for line in lines:
            console.print(printable(line))
        if without_spec is not None:
            console.print(printable(f"keys and JSON only: no model's spec ({without_spec}); --spec names a file"))
        console.print(f"{found.records:,} records of {found.ads:,} ads; {len(lines) or 'no'} findings")
    raise typer.Exit(1 if lines else 0)


@app.command()
def lag(table: TableName = Name.ADS, *, as_json: AsJson = False, config: Config = None) -> None:
    """Show how far the tables of this machine are behind the end of the topic."""
    settings = load_settings(config)
    tables = asyncio.run(_lag(settings))
    if as_json:
        typer.echo(json.dumps({"topic": ads_topic(settings), "tables": tables}))
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    shown = Table("table", "state", "ads", "bytes", "records behind", "last write", box=None)
    for each in tables:
        behind, ago = each["behind"], each["seconds_since_write"]
        cells = each["fingerprint"][:12], each["state"], f"{each['ads']:,}", f"{each['bytes']:,}"
        shown.add_row(*cells, f"{behind:,}", f"{ago:.0f} s ago")
    Console(highlight=False).print(shown)


async def _state(settings: Settings, ad_id: str, spec: Path | None) -> tuple[AdState, Encoder | ConfigError]:
    encoder = await encoder_at_hand(settings, spec)
    form = form_without_spec() if isinstance(encoder, ConfigError) else encoder.row_form()
    ads = AdsAt([ad_id], form.document, None)
    async for record in ad_records(settings):
        ads.add(record)
    return ads.state(ad_id), encoder


def _features(encoder: Encoder, document: Mapping[str, Any]) -> list[FeatureLine]:
    """The lines of the ad's own features."""
    request = BidRequest("", {}, 1, rows=[orjson.dumps(document)])
    lines = feature_lines(encoder.layout, request, encoder.encode(request))
    return [line for line in lines if line.group == "candidate"]


def _shown(ad_id: str, state: AdState, lines: list[FeatureLine], encoder: Encoder | None) -> dict[str, Any]:
    record, spec = state.record, None if encoder is None else encoder.spec
    return {
        "ad_id": ad_id,
        "value": state.document,
        "partition": None if record is None else record.partition,
        "offset": None if record is None else record.offset,
        "timestamp_ms": None if record is None else record.timestamp_ms,
        "warnings": [warning for warning in (state.why_unknown, state.bad) if warning is not None],
        "spec": None if spec is None else {"name": spec.name, "hash": spec.hash},
        "features": [{"name": line.name, "rows": line.rows, "number": line.number} for line in lines],
    }


async def _counted(settings: Settings) -> AdsCount:
    from streamer.kafka.topics import partitions_of  # noqa: PLC0415

    counted = AdsCount(await partitions_of(settings, ads_topic(settings)))
    async for record in ad_records(settings):
        counted.add(record)
    return counted


async def _checked(
    settings: Settings, spec: Path | None, limit: int
) -> tuple[AdsCheck, list[Finding], ConfigError | None]:
    """The records, the findings about the topic, and why there is no spec."""
    from streamer.kafka.facts import topic_facts  # noqa: PLC0415

    topic = ads_topic(settings)
    encoder = await encoder_at_hand(settings, spec)
    form = form_without_spec() if isinstance(encoder, ConfigError) else encoder.row_form()
    found = AdsCheck(form.document, limit)
    async for record in ad_records(settings):
        found.add(record)
    facts = (await topic_facts(settings, [topic])).topics[topic]
    wrong = [] if facts is None else list(compaction(topic, facts))
    return found, wrong, encoder if isinstance(encoder, ConfigError) else None


async def _lag(settings: Settings) -> list[dict[str, Any]]:
    from streamer.kafka.topics import ends_of  # noqa: PLC0415
    from streamer.tables.store import stored_tables  # noqa: PLC0415

    topic, folder = ads_topic(settings), settings.ads.directory
    tables = [each for each in stored_tables(folder) if each.topic == topic]
    if not tables:
        raise StreamerError(f"no worker of this machine has a table of topic {topic!r} in {folder} (ads.directory)")
    ends, now = await ends_of(settings, topic), time.time()
    return [lag_of(each, ends, now) for each in tables]


def lag_of(stored: "StoredTable", ends: Sequence[int], now: float) -> dict[str, Any]:
    """The lag of one table.

    `ends`: the next offset of each partition; `now`: wall clock, seconds.
    """
    state = stored.state
    loaded = "ready" if state.is_ready else f"{state.loaded_share:.0%} loaded"
    return {
        "fingerprint": stored.fingerprint,
        "topic_id": stored.topic_id,
        "state": "retired" if state.is_retired else loaded,
        "ads": state.count,
        "bytes": state.used_bytes,
        "positions": list(state.positions),
        "ends": list(ends),
        "behind": sum(max(0, end - at) for end, at in zip_longest(ends, state.positions, fillvalue=0)),
        "seconds_since_write": round(max(0.0, now - state.written_at), 3),
    }


def _place(record: AdRecord) -> str:
    return f"partition {record.partition}, offset {record.offset}"
