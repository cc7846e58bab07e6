"""`streamer dlq`: see what could not be answered, and send it again."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from streamer.errors import ConfigError, StreamerError
from streamer.kafka.dead_letters import Buried, Wanted
from streamer.settings import Settings, load_settings

app = typer.Typer(no_args_is_help=True, help="See dead letters, and send them again.")

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

Config = Annotated[Path | None, typer.Option(help="Settings (YAML). STREAMER_… variables win over it.")]
Reason = Annotated[str, typer.Option(help="Only those whose reason contains this.")]
Stage = Annotated[str | None, typer.Option(help="Only those of this stage: decode, encode, pipeline, publish, crash.")]
Topic = Annotated[str | None, typer.Option(help="Only those that came from this topic.")]
Since = Annotated[
    str | None,
    typer.Option(help="Only those put there since: 90s, 15m, 2h, 7d, or an ISO time, in UTC if it names no zone."),
]


@app.command("list")
def show_all(
    *,
    reason: Reason = "",
    stage: Stage = None,
    topic: Topic = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, help="How many to show; the newest.")] = 20,
    config: Config = None,
) -> None:
    """Show what lies in the dead-letter topic, a line each, and how many there are of each reason."""
    settings = load_settings(config)
    wanted = Wanted(reason, stage, topic, _since_ms(since))
    found, count = asyncio.run(_newest(settings, wanted, limit))
    table = Table("position", "when", "came from", "stage", "reason", "bytes", box=None)
    for buried in found:
        letter = buried.letter
        size = buried.value_bytes if buried.value_bytes is not None else len(letter.value or b"")
        origin = letter.origin
        came_from = f"{origin.topic}/{origin.partition}@{origin.offset}"
        table.add_row(buried.position, _time(buried.at_ms), came_from, letter.stage, letter.reason, str(size))
    console = Console(highlight=False, markup=False)
    console.print(table)
    console.print(
        f"{count} dead letters in {settings.sink.dead_letter_topic}" + f", the newest {limit}" * (count > limit)
    )


@app.command()
def show(
    position: Annotated[str, typer.Argument(help="PARTITION:OFFSET, as `list` shows it.")], config: Config = None
) -> None:
    """Show one dead letter whole: why it is there, its headers, its key, its value."""
    settings = load_settings(config)
    found, _ = asyncio.run(_newest(settings, Wanted(positions=_positions([position])), 1))
    if not found:
        raise StreamerError(f"there is no dead letter at {position} of {settings.sink.dead_letter_topic}")
    (buried,) = found
    letter = buried.letter
    typer.echo(f"reason: {letter.reason}")
    typer.echo(f"stage: {letter.stage}")
    typer.echo(f"came from: {letter.origin.topic}, partition {letter.origin.partition}, offset {letter.origin.offset}")
    typer.echo(
        f"produced: {_time(letter.timestamp_ms)}, given up: {_time(buried.at_ms)}, replayed {buried.replays} times"
    )
    typer.echo(f"key: {_readable(letter.key)}")
    for name, content in letter.headers:
        typer.echo(f"header {name}: {_readable(content)}")
    if buried.value_bytes is not None:
        typer.echo(f"value: {buried.value_bytes} bytes, too large for the dead-letter topic, left out")
    else:
        typer.echo(f"value:\n{_readable(letter.value)}")


@app.command()
def replay(
    positions: Annotated[
        list[str] | None, typer.Argument(help="PARTITION:OFFSET …; without any: all that match.")
    ] = None,
    *,
    reason: Reason = "",
    stage: Stage = None,
    topic: Topic = None,
    since: Since = None,
    to: Annotated[
        str | None, typer.Option(help="Topic to send them to; by default the one that they came from.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and send nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
    config: Config = None,
) -> None:
    """Send dead letters again, with their own key, value and headers, and a new timestamp: their time begins anew."""
    settings = load_settings(config)
    wanted = Wanted(reason, stage, topic, _since_ms(since), _positions(positions or []))
    count = asyncio.run(_count(settings, wanted))
    if dry_run or not count:
        typer.echo(f"{count} dead letters match; nothing was sent")
        return
    if not yes:
        typer.confirm(f"send {count} dead letters again?", abort=True)
    sent, left_out = asyncio.run(_replay(settings, wanted, to))
    typer.echo(f"{sent} sent again")
    if left_out:
        raise StreamerError(f"{left_out} could not be: their value was left out, or nothing says where they came from")


async def _newest(settings: Settings, wanted: Wanted, limit: int) -> tuple[list[Buried], int]:
    """The newest that match, the oldest of them first, and how many match."""
    found: list[Buried] = []
    count = 0
    async for buried in _buried(settings):
        if wanted.matches(buried):
            count += 1
            found.append(buried)
            if len(found) > 2 * limit:
                found = sorted(found, key=lambda b: b.at_ms)[-limit:]
    return sorted(found, key=lambda b: b.at_ms)[-limit:], count


async def _count(settings: Settings, wanted: Wanted) -> int:
    return sum([1 async for buried in _buried(settings) if wanted.matches(buried)])


async def _replay(settings: Settings, wanted: Wanted, to: str | None) -> tuple[int, int]:
    """Sends those that match; returns how many were sent, and how many cannot be.

    Raises:
        StreamerError: the brokers refuse one; those before it were sent.
    """
    from aiokafka.errors import KafkaError  # noqa: PLC0415

    from streamer.kafka import clients  # noqa: PLC0415

    sent = left_out = 0
    async with clients.started(clients.producer(settings), settings) as producer:
        async for buried in _buried(settings):
            if not wanted.matches(buried):
                continue
            letter = buried.letter
            topic = to or letter.origin.topic
            if buried.value_bytes is not None or not topic:
                left_out += 1
                continue
            try:
                await producer.send_and_wait(topic, letter.value, letter.key, headers=buried.headers_for_replay())
            except KafkaError as error:
                where = f"{buried.position} could not be sent to {topic!r}"
                raise StreamerError(f"{sent} sent again, then {where}: {error!r}") from error
            sent += 1
    return sent, left_out


async def _buried(settings: Settings) -> AsyncIterator[Buried]:
    """All that lies in the topic now, partition by partition."""
    from streamer.kafka import clients, dead_letters  # noqa: PLC0415

    async for record in clients.records_of(settings, settings.sink.dead_letter_topic):
        yield dead_letters.read(
            record.partition,
            record.offset,
            record.timestamp,
            key=record.key,
            value=record.value,
            headers=list(record.headers),
        )


def _positions(texts: list[str]) -> frozenset[str]:
    for text in texts:
        if not re.fullmatch(r"\d+:\d+", text):
            raise ConfigError(f"position {text!r}: expected PARTITION:OFFSET, such as 0:17")
    return frozenset(texts)


def _since_ms(text: str | None) -> int:
    if text is None:
        return 0
    if (ago := re.fullmatch(r"(\d+)([smhd])", text)) is not None:
        return int(1e3 * (time.time() - int(ago[1]) * _SECONDS[ago[2]]))
    try:
        said = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--since {text!r}: expected 90s, 15m, 2h, 7d, or an ISO time") from None
    # As `_time` shows them.
    return int(1e3 * (said if said.tzinfo else said.replace(tzinfo=UTC)).timestamp())


def _time(milliseconds: int) -> str:
    try:
        return datetime.fromtimestamp(milliseconds / 1e3, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError):  # somebody's microseconds or nanoseconds, which brokers take
        return f"{milliseconds} ms"


def _readable(content: bytes | None) -> str:
    """JSON indented, other text as it is, other bytes escaped."""
    if content is None:
        return "none"
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return repr(content)
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text if text.isprintable() else repr(text)
