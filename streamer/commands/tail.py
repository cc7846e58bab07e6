"""`streamer tail`: shows answers as they arrive."""

import asyncio
import json
from contextlib import AsyncExitStack, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from streamer.codec import Codec
from streamer.commands.answer_text import Timing, described, origin_of, style_of
from streamer.commands.options import Config
from streamer.features import FeatureSpec
from streamer.formats.read_answers import Answer, read_answer
from streamer.settings import Settings, load_settings
from streamer.settings.names import printable
from streamer.types import BidRequest, RequestPaths, Status

if TYPE_CHECKING:
    from rich.console import Console

    from streamer.kafka.follow import Lookup

StatusName = StrEnum("StatusName", {name: name for name in get_args(Status)})  # type: ignore[misc]
Top = Annotated[int, typer.Option(min=0, help="Ads of each answer to show, those with the highest rates.")]
Spec = Annotated[
    Path | None, typer.Option(help="Feature spec (YAML) with the paths of a request's own fields, if they differ.")
]


def tail(
    config: Config = None,
    *,
    status: Annotated[list[StatusName] | None, typer.Option(help="Only answers of this status; repeatable.")] = None,
    request_id: Annotated[str | None, typer.Option(help="Only answers to this request.")] = None,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Begin with the answers that the topic has.")
    ] = False,
    count: Annotated[int | None, typer.Option("-n", "--count", min=1, help="Stop after so many answers.")] = None,
    top: Top = 3,
    spec: Spec = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each answer as a line of JSON.")] = False,
) -> None:
    """Show answers as they arrive, until Ctrl-C: status, version, ads, times, lateness.

    Lateness is the timestamp of the answer's record minus that of the request's, compared with the request's budget.
    """
    settings = load_settings(config)
    shown = AnswerPrinter(settings, None if spec is None else FeatureSpec.from_yaml(spec), top, as_json=as_json)
    wanted = frozenset(map(str, status or ()))
    with suppress(KeyboardInterrupt):
        asyncio.run(_tail(settings, shown, wanted, request_id, count, from_beginning=from_beginning))


async def _tail(
    settings: Settings,
    shown: "AnswerPrinter",
    wanted: frozenset[str],
    request_id: str | None,
    count: int | None,
    *,
    from_beginning: bool,
) -> None:
    from streamer.kafka.follow import followed, lookup  # noqa: PLC0415

    async with AsyncExitStack() as stack:
        if not shown.as_json:
            shown.lookup = await stack.enter_async_context(lookup(settings))
        answers = await stack.enter_async_context(
            followed(settings, settings.sink.topic, from_beginning=from_beginning)
        )
        async for record in answers:
            try:
                answer = read_answer(record.value, record.headers)
            except ValueError as error:
                shown.error(f"{settings.sink.topic} {record.partition}:{record.offset}: no answer: {error}")
                continue
            if wanted and answer["status"] not in wanted:
                continue
            if request_id is not None and answer.get("request_id") != request_id:
                continue
            await shown.show(answer, record.timestamp)
            count = None if count is None else count - 1
            if count == 0:
                return


class AnswerPrinter:
    """Prints answers, a block of lines each, or one line of JSON.

    Attributes:
        lookup: reads an answer's request, for its timestamp and budget; without it lateness is not shown.
    """

    def __init__(self, settings: Settings, spec: FeatureSpec | None, top: int, *, as_json: bool = False) -> None:
        self._source, self._top, self.as_json = settings.source, top, as_json
        paths, margin_ms = (RequestPaths(), 0.0) if spec is None else (spec.request, spec.deadline_margin_ms)
        self._codec = Codec(settings.codec, paths, frozenset(), frozenset(), margin_ms)
        self.lookup: Lookup | None = None
        self._consoles: dict[bool, Console] = {}

    async def show(self, answer: Answer, timestamp_ms: int) -> None:
        """Prints an answer whose record has this timestamp, in milliseconds since the epoch."""
        if self.as_json:
            typer.echo(json.dumps(answer))
            return
        from rich.text import Text  # noqa: PLC0415

        first, *rest = described(answer, await self._timing(answer, timestamp_ms), self._top)
        line = Text(first)
        line.highlight_words([f"  {answer['status']}"], style_of(answer))
        for each in (line, *map(Text, rest)):
            self._console().print(each, soft_wrap=True)

    def error(self, line: str) -> None:
        """Prints a line on standard error."""
        self._console(stderr=True).print(printable(f"streamer: {line}"), soft_wrap=True, markup=False)

    async def _timing(self, answer: Answer, timestamp_ms: int) -> Timing | None:
        origin = origin_of(answer)
        request = None if self.lookup is None or origin is None else await self.lookup.record(origin)
        if request is None:
            return None
        decoded = self._codec.decode(request.value, request.headers)
        own = decoded.deadline_ms if isinstance(decoded, BidRequest) else None
        budget_ms = self._source.budget_ms if own is None else min(own, self._source.max_budget_ms)
        return Timing(timestamp_ms - request.timestamp, budget_ms)

    def _console(self, *, stderr: bool = False) -> "Console":
        from rich.console import Console  # noqa: PLC0415

        return self._consoles.setdefault(stderr, Console(stderr=stderr, highlight=False))
