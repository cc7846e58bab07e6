"""`streamer send`: publishes requests, and waits for their answers."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamer.codec import DEADLINE_HEADER, REQUEST_ID_HEADER
from streamer.commands.answer_text import origin_of
from streamer.commands.local_files import json_objects
from streamer.commands.options import Config
from streamer.commands.tail import AnswerPrinter, Spec, Top
from streamer.errors import ConfigError, SpecError, StreamerError
from streamer.features import FeatureSpec
from streamer.features.hashing import canonical
from streamer.features.paths import getter
from streamer.formats.read_answers import Answer, read_answer
from streamer.settings import Settings, load_settings
from streamer.settings.names import printable
from streamer.types import Header, Origin, RequestPaths

if TYPE_CHECKING:
    from streamer.kafka.follow import Records
    from streamer.kafka.produced import NewRecord, Produced

_CHUNK = 500


def send(
    requests: Annotated[Path, typer.Argument(help="One JSON object, or one a line. - reads standard input.")],
    config: Config = None,
    *,
    user_path: Annotated[str, typer.Option(help="Path of the user's id, which is the record's key.")] = "user.id",
    deadline_ms: Annotated[
        float | None,
        typer.Option(
            min=0.001, help="Budget, in a header beside the request id; one in the request itself counts more."
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the answers, and show them.")] = False,
    timeout_s: Annotated[float, typer.Option(min=0.1, help="With --wait: the longest wait, in seconds.")] = 10.0,
    top: Top = 3,
    spec: Spec = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a line of JSON for each request, with --wait also for each answer.")
    ] = False,
) -> None:
    """Publish requests as they are, keyed by user, and print the position of each.

    Exit status 1 if the brokers do not accept one, or with --wait if an answer is missing.
    """
    settings = load_settings(config)
    of_file = None if spec is None else FeatureSpec.from_yaml(spec)
    records = _records(requests, user_path, deadline_ms, RequestPaths() if of_file is None else of_file.request)
    printer = AnswerPrinter(settings, of_file, top, as_json=as_json)
    if (keyless := sum(record.key is None for record in records)) > 0:
        printer.error(f"{keyless} of {len(records)} requests have nothing at {user_path}, so no key (--user-path)")
    asyncio.run(_send(settings, records, printer, timeout_s if wait else None))


def _records(path: Path, user_path: str, deadline_ms: float | None, paths: RequestPaths) -> list["NewRecord"]:
    from streamer.kafka.produced import NewRecord  # noqa: PLC0415

    try:
        user, request_id = getter(user_path), getter(paths.request_id)
    except SpecError as error:
        raise ConfigError(f"--user-path: {error}") from None
    records = []
    for where, value, document in json_objects(path):
        headers: list[Header] = []
        if deadline_ms is not None:
            headers.append((DEADLINE_HEADER, f"{deadline_ms:g}".encode()))
            if isinstance(known := request_id(document), str):
                headers.append((REQUEST_ID_HEADER, known.encode()))
        key = canonical(user(document))
        records.append(NewRecord(where, None if key is None else key.encode(), value, headers))
    return records


async def _send(
    settings: Settings, records: Sequence["NewRecord"], printer: AnswerPrinter, timeout_s: float | None
) -> None:
    from streamer.kafka.follow import followed, lookup  # noqa: PLC0415
    from streamer.kafka.produced import producing  # noqa: PLC0415

    async with AsyncExitStack() as stack:
        answers = None
        if timeout_s is not None:
            if not printer.as_json:
                printer.lookup = await stack.enter_async_context(lookup(settings))
            answers = await stack.enter_async_context(followed(settings, settings.sink.topic))
        producer = await stack.enter_async_context(producing(settings, settings.source.topic))
        missing: set[Origin] = set()
        for start in range(0, len(records), _CHUNK):
            chunk = records[start : start + _CHUNK]
            for record, produced in zip(chunk, await producer.send(chunk), strict=True):
                typer.echo(_position(record, produced, as_json=printer.as_json))
                missing.add(produced.origin)
        if answers is None or timeout_s is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await _show_answers(answers, missing, printer)
        if missing:
            first = min(missing, key=lambda each: (each.partition, each.offset))
            raise StreamerError(
                f"{len(missing)} of {len(records)} requests have no answer after {timeout_s:g} s, the first one is"
                f" {first.partition}:{first.offset} of {first.topic}. Does `streamer run` read this topic? A request"
                " without a readable id is in `streamer dlq list`"
            )


async def _show_answers(answers: "Records", missing: set[Origin], printer: AnswerPrinter) -> None:
    """Shows the answers to the requests at these positions, and removes each position."""
    async for record in answers:
        try:
            answer: Answer = read_answer(record.value, record.headers)
        except ValueError:
            continue  # another program's record
        origin = origin_of(answer)
        if origin in missing:
            missing.discard(origin)
            await printer.show(answer, record.timestamp)
            if not missing:
                return


def _position(record: "NewRecord", produced: "Produced", *, as_json: bool) -> str:
    origin, key = produced.origin, None if record.key is None else record.key.decode()
    if as_json:
        content: dict[str, Any] = {
            "topic": origin.topic,
            "partition": origin.partition,
            "offset": origin.offset,
            "timestamp_ms": produced.timestamp_ms,
            "key": key,
        }
        return json.dumps(content)
    shown = "without a key" if key is None else f"key {key}"
    return printable(f"{record.where}: {origin.topic} partition {origin.partition}, offset {origin.offset}, {shown}")
