"""`streamer dlq`: lists, shows and replays dead letters."""

import asyncio
import json
import re
import time
from bisect import insort
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any, get_args

import typer

from streamer.commands.options import AsJson, Config
from streamer.errors import ConfigError, StreamerError
from streamer.kafka.dead_letters import UNREADABLE_STAGE, DeadLetterFilter, StoredDeadLetter
from streamer.settings import Settings, load_settings
from streamer.settings.names import printable
from streamer.types import DeadLetterStage

app = typer.Typer(no_args_is_help=True, help="List, show and replay dead letters.")

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

Position = Annotated[str, typer.Argument(help="PARTITION:OFFSET, as `list` shows it.")]
Positions = Annotated[list[str] | None, typer.Argument(help="PARTITION:OFFSET …; without any, all that match.")]
Target = Annotated[str | None, typer.Option(help="Topic to produce them to; by default the one that they came from.")]
Reason = Annotated[str, typer.Option(help="Only dead letters whose reason contains this text.")]
Stage = Annotated[str | None, typer.Option(help=f"Only those of one stage: {', '.join(get_args(DeadLetterStage))}.")]
Topic = Annotated[str | None, typer.Option(help="Only those whose record came from this topic.")]
Since = Annotated[
    str | None,
    typer.Option(help="Only those written since: 90s, 15m, 2h, 7d, or an ISO time, in UTC unless it names a zone."),
]


@app.command("list")
def show_all(
    *,
    reason: Reason = "",
    stage: Stage = None,
    topic: Topic = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, help="How many to list; the newest.")] = 20,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """List the dead letters, one per line, and count those that match."""
    settings = load_settings(config)
    wanted = DeadLetterFilter(reason, stage, topic, _since_ms(since))
    found, count = asyncio.run(_newest(settings, wanted, limit))
    if as_json:
        content = {"topic": settings.sink.dead_letter_topic, "count": count, "dead_letters": list(map(_facts, found))}
        typer.echo(json.dumps(content))
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table("position", "when", "came from", "stage", "reason", "bytes", box=None)
    for stored in found:
        letter, origin = stored.letter, stored.letter.origin
        came_from = f"{origin.topic}/{origin.partition}@{origin.offset}"
        cells = (stored.position, utc_time(stored.at_ms), came_from, letter.stage, letter.reason, str(_size(stored)))
        table.add_row(*map(printable, cells))
    console = Console(highlight=False, markup=False)
    console.print(table)
    newest = f", the newest {limit}" if count > limit else ""
    console.print(f"{count} dead letters in {settings.sink.dead_letter_topic}{newest}")


@app.command()
def show(position: Position, config: Config = None, *, as_json: AsJson = False) -> None:
    """Show one dead letter: its reason, origin, headers, key and value."""
    settings = load_settings(config)
    found, _ = asyncio.run(_newest(settings, DeadLetterFilter(positions=_positions([position])), 1))
    if not found:
        raise StreamerError(f"there is no dead letter at {position} of {settings.sink.dead_letter_topic}")
    (stored,) = found
    if as_json:
        letter = stored.letter
        headers = [[name, _text(content)] for name, content in letter.headers]
        typer.echo(json.dumps({**_facts(stored), "headers": headers, "value": _text(letter.value)}))
        return
    for line in described(stored):
        typer.echo(line)


@app.command()
def replay(
    positions: Positions = None,
    *,
    reason: Reason = "",
    stage: Stage = None,
    topic: Topic = None,
    since: Since = None,
    to: Target = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the matches and replay nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    config: Config = None,
) -> None:
    """Produce the records of dead letters again, with a new timestamp and so a new budget."""
    settings = load_settings(config)
    wanted = DeadLetterFilter(reason, stage, topic, _since_ms(since), _positions(positions or []))
    _, count = asyncio.run(_newest(settings, wanted, 1))
    if dry_run or not count:
        typer.echo(f"{count} dead letters match; nothing was replayed")
        return
    if not yes:
        typer.confirm(f"replay {count} dead letters?", abort=True)
    replayed, skipped = asyncio.run(_replay(settings, wanted, to))
    typer.echo(f"{replayed} replayed")
    if skipped:
        raise StreamerError(f"{skipped} cannot be replayed: their value was left out, or their origin is unknown")


def described(stored: StoredDeadLetter) -> list[str]:
    """One dead letter for people; no text of its record can control the terminal."""
    letter, origin = stored.letter, stored.letter.origin
    times = f"produced: {utc_time(letter.timestamp_ms)}, dead-lettered: {utc_time(stored.at_ms)}"
    if letter.stage == UNREADABLE_STAGE:
        value = "key, headers and value: could not be read"
    elif stored.value_bytes is not None:
        value = f"value: {stored.value_bytes} bytes, too large for the dead-letter topic, left out"
    else:
        value = f"value:\n{_readable(letter.value, indent=2)}"
    return [
        printable(f"reason: {letter.reason}"),
        printable(f"stage: {letter.stage}"),
        printable(f"came from: {origin.topic}, partition {origin.partition}, offset {origin.offset}"),
        f"{times}, replayed {stored.replays} times",
        f"key: {_readable(letter.key)}",
        *(f"header {printable(name)}: {_readable(content)}" for name, content in letter.headers),
        value,
    ]


def _facts(stored: StoredDeadLetter) -> dict[str, Any]:
    """The fields of a dead letter in JSON, without its content."""
    letter, origin = stored.letter, stored.letter.origin
    return {
        "position": stored.position,
        "dead_lettered_ms": stored.at_ms,
        "origin": {"topic": origin.topic, "partition": origin.partition, "offset": origin.offset},
        "timestamp_ms": letter.timestamp_ms,
        "stage": letter.stage,
        "reason": letter.reason,
        "bytes": _size(stored),
        "has_value": stored.value_bytes is None,
        "replays": stored.replays,
        "key": _text(letter.key),
    }


def _size(stored: StoredDeadLetter) -> int:
    return stored.value_bytes if stored.value_bytes is not None else len(stored.letter.value or b"")


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode(errors="backslashreplace")


async def _newest(settings: Settings, wanted: DeadLetterFilter, limit: int) -> tuple[list[StoredDeadLetter], int]:
    """The newest dead letters that match, oldest first, and the number of all that match."""
    found: list[StoredDeadLetter] = []
    count = 0
    async for stored in _stored(settings, wanted):
        count += 1
        insort(found, stored, key=lambda each: each.at_ms)
        del found[:-limit]
    return found, count


async def _replay(settings: Settings, wanted: DeadLetterFilter, to: str | None) -> tuple[int, int]:
    """Replays the dead letters that match; returns how many were replayed and how many skipped.

    Raises:
        StreamerError: the brokers reject one; those before it were replayed.
    """
    from streamer.kafka import clients  # noqa: PLC0415

    replayed = skipped = 0
    async with clients.started(clients.producer(settings), settings) as producer:
        async for stored in _stored(settings, wanted):
            letter = stored.letter
            topic = to or letter.origin.topic
            if stored.value_bytes is not None or not topic:
                skipped += 1
                continue
            try:
                await producer.send_and_wait(topic, letter.value, letter.key, headers=stored.headers_for_replay())
            except clients.CLIENT_ERROR as error:
                message = f"{replayed} replayed, then {stored.position} was not accepted by topic {topic!r}: {error!r}"
                raise StreamerError(message) from error
            replayed += 1
    return replayed, skipped


async def _stored(settings: Settings, wanted: DeadLetterFilter) -> AsyncIterator[StoredDeadLetter]:
    """The dead letters that the topic holds now and that match, one partition after the other."""
    from streamer.kafka.topics import records_of  # noqa: PLC0415

    async for record in records_of(settings, settings.sink.dead_letter_topic):
        position = f"{record.partition}:{record.offset}"
        stored = StoredDeadLetter.parse(position, record.timestamp, record.key, record.value, list(record.headers))
        if wanted.matches(stored):
            yield stored


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
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--since {text!r}: expected 90s, 15m, 2h, 7d, or an ISO time") from None
    # UTC by default, because `utc_time` shows UTC.
    return int(1e3 * (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp())


def utc_time(milliseconds: int) -> str:
    """A record's timestamp for people, in UTC."""
    try:
        return datetime.fromtimestamp(milliseconds / 1e3, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):  # brokers accept microseconds and nanoseconds, too
        return f"{milliseconds} ms"


def _readable(content: bytes | None, indent: int | None = None) -> str:
    """JSON and other text; other bytes and all unprintable characters are escaped."""
    if content is None:
        return "none"
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return repr(content)
    try:
        return printable(json.dumps(json.loads(text), indent=indent, ensure_ascii=False), keep_lines=True)
    except (ValueError, RecursionError):
        return text if text.isprintable() else repr(text)
