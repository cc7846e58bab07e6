"""`streamer explain`: encodes and scores one request, with or without a model server."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from streamer import unknown_ads
from streamer.codec import Codec, unknown_model
from streamer.commands.ads_topic import ads_topic
from streamer.commands.explained_ads import At, read_ads
from streamer.commands.explanation import Explanation, FeatureLine, feature_lines, rejected_json
from streamer.commands.local_files import opened
from streamer.commands.options import AsJson, Config
from streamer.errors import ConfigError, InvalidRequestError
from streamer.features import Encoder, FeatureSpec
from streamer.formats.content_type import CONTENT_TYPE_HEADER, JSON_TYPE
from streamer.settings import Settings, load_settings
from streamer.settings.names import printable
from streamer.types import BadRecord, BatchInputs, BidRequest, EncodedRequest, Header, Origin

if TYPE_CHECKING:
    from rich.table import Table

_UNKNOWN = 10
_SIDES = {"request": "user or context", "candidate": "candidate 0", "pair": "crossed with candidate 0"}


def explain(
    request: Annotated[Path | None, typer.Argument(help="A request. - reads standard input.")] = None,
    config: Config = None,
    *,
    spec: Annotated[Path | None, typer.Option(help="Encode by this feature spec (YAML), without a model.")] = None,
    topic: Annotated[str | None, typer.Option(help="Topic of the record. Default: source.topic.")] = None,
    partition: Annotated[int | None, typer.Option(min=0, help="Partition of the record to explain.")] = None,
    offset: Annotated[int | None, typer.Option(min=0, help="Offset of the record to explain.")] = None,
    content_type: Annotated[str, typer.Option(help="Content type of the file.")] = JSON_TYPE,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="OFFSETS|ANSWER",
            help="Ads by id as an answer had them: a file with the answer, or the positions in it, such as 12,40.",
        ),
    ] = None,
    candidates: Annotated[int, typer.Option(min=0, help="Number of candidates to show.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Encode and score one request with the serving model, and show each step.

    The request is a file, or the record at an offset of a topic. It publishes nothing. Ads by id are read from their
    topic; exit status 1 if their features at the position of --at are not known any more.
    """
    settings = load_settings(config)
    is_record = offset is not None
    if (request is None) != is_record or (partition is None) == is_record or (topic is not None and not is_record):
        raise ConfigError("explain: expected a file, or --partition and --offset of a record")
    place = None
    if partition is not None and offset is not None:
        place = Origin(topic or settings.source.topic, partition, offset)
    answer = None if at is None else At.parse(at)
    if answer is not None:
        ads_topic(settings)
    try:
        found = asyncio.run(_explained(settings, request or place, content_type, spec, answer))
    except _RejectedError as error:
        if as_json:
            typer.echo(rejected_json(error.request_id, error.reason, place))
        raise
    if as_json:
        typer.echo(found.as_json(candidates))
    else:
        _show(found, candidates)


class _RejectedError(ConfigError):
    """The record would not be scored."""

    def __init__(self, request_id: str | None, reason: str) -> None:
        outcome = "answered `invalid`" if request_id else "dead-lettered"
        super().__init__(f"this record would be {outcome}: {reason}")
        self.request_id, self.reason = request_id, reason


@dataclass(frozen=True, slots=True)
class _Taken:
    """The content of the record to explain."""

    value: bytes | None
    headers: tuple[Header, ...] = ()
    origin: Origin | None = None


async def _explained(
    settings: Settings, source: Path | Origin | None, content_type: str, spec: Path | None, at: At | None
) -> Explanation:
    if isinstance(source, Origin):
        taken = await _record(settings, source)
    else:
        taken = _Taken(_content(source), ((CONTENT_TYPE_HEADER, content_type.encode()),))
    if spec is not None:
        of_file = FeatureSpec.from_yaml(spec)
        codec = Codec(
            settings.codec,
            of_file.request,
            of_file.document_keys,
            of_file.containers,
            of_file.deadline_margin_ms,
            candidate_keys=of_file.candidate_keys,
            by_id=settings.ads.topic is not None,
        )
        return await _encoded(settings, codec, Encoder(of_file), taken, at)
    # Imported here, so that --help does not wait for gRPC.
    from streamer.commands.live_model import connected, served  # noqa: PLC0415

    models = settings.predictor.models
    async with connected(settings) as predictor:
        asked = None if at is None else at.version
        serving, available = await served(predictor.control, settings, models[0], asked)
        decoded = serving.codec.decode(taken.value, taken.headers)
        if isinstance(decoded, BidRequest) and decoded.model not in (None, models[0]):
            if decoded.model not in models:
                raise _RejectedError(decoded.request_id, unknown_model(decoded.model, models))
            serving, available = await served(predictor.control, settings, decoded.model, asked)
        found = await _encoded(settings, serving.codec, serving.encoder, taken, at)
        start = time.perf_counter()
        timeout_s = settings.predictor.control_timeout_ms / 1e3
        ctr = await predictor.score(serving.version, BatchInputs.whole(found.encoded), timeout_s)
        times = {**found.times, "predict": (time.perf_counter() - start) * 1e3}
        if settings.ads.unknown == "prior" and found.encoded.unknown is not None:
            ctr = np.where(found.encoded.unknown, np.float32(np.nan), ctr)
    return replace(found, version=serving.version, available=tuple(available), ctr=ctr.tolist(), times=times)


def _content(request: Path | None) -> bytes:
    assert request is not None, "a file or a record is given"
    with opened(request) as file:
        return file.read()


async def _record(settings: Settings, place: Origin) -> _Taken:
    from streamer.kafka.one_record import read_record  # noqa: PLC0415
    from streamer.kafka.record_batches import UnreadableRecord  # noqa: PLC0415

    record = await read_record(settings, (place.topic, place.partition), place.offset)
    if isinstance(record, UnreadableRecord):
        raise _RejectedError(None, record.reason)
    return _Taken(record.value, tuple(record.headers), place)


async def _encoded(settings: Settings, codec: Codec, encoder: Encoder, taken: _Taken, at: At | None) -> Explanation:
    start = time.perf_counter()
    decoded = codec.decode(taken.value, taken.headers)
    parsed_s = time.perf_counter() - start
    if isinstance(decoded, BadRecord):
        raise _RejectedError(decoded.request_id, decoded.reason)
    if at is not None and at.request_id not in {None, decoded.request_id}:
        raise ConfigError(f"--at: the answer is to request {at.request_id!r}, not to {decoded.request_id!r}")
    try:
        ads = None
        if settings.ads.topic is not None:
            ads = await read_ads(settings, encoder.row_form(), encoder.encode(decoded).ad_ids, at)
            encoder = encoder.with_ads(ads)
            encoder.out_of_range.clear()  # the ids alone have counted the request's numbers
        start = time.perf_counter()
        encoded = encoder.encode(decoded)
        encoded_s = time.perf_counter() - start
    except InvalidRequestError as error:
        raise _RejectedError(decoded.request_id, str(error)) from error
    if reason := unknown_ads.check(encoded, settings.ads.unknown, codec.paths, lambda _: None):
        raise _RejectedError(decoded.request_id, reason)
    if at is not None and at.ctr is not None and len(at.ctr) != encoded.size:
        raise ConfigError(f"--at: the answer has {len(at.ctr)} scores, the request {encoded.size} candidates")
    own, first = decoded.deadline_ms, None if ads is None else ads.documents[encoded.ad_ids[0]]
    return Explanation(
        decoded.request_id,
        encoder.layout,
        encoded,
        feature_lines(encoder.layout, decoded, encoded, first),
        dict(encoder.out_of_range),
        budget_ms=settings.source.budget_ms if own is None else min(own, settings.source.max_budget_ms),
        calls=-(-encoded.size // min(settings.batching.batch_rows, settings.batching.max_batch_rows)),
        times={"decode": parsed_s * 1e3, "encode": encoded_s * 1e3},
        origin=taken.origin,
        answered=None if at is None else at.ctr,
    )


def _show(found: Explanation, shown: int) -> None:
    from rich.console import Console  # noqa: PLC0415

    console = Console(highlight=False, markup=False)
    spec, version = found.layout.spec, found.version
    by = f"spec {spec.name}, hash {spec.hash}; no model" if version is None else f"model {version}"
    size, budget = found.encoded.size, found.budget_ms
    console.print(printable(f"request {found.request_id}: {size} candidates, budget {budget:g} ms, {by}"))
    if found.encoded.consent_denied:
        console.print("consent is denied: all user features count as missing")
    if found.encoded.position is not None:
        console.print(printable(_table_line(found.encoded)), soft_wrap=True)
    console.print(feature_table(found.features))
    for feature, count in found.out_of_range.items():
        console.print(printable(f"out of range, so missing: {count} numbers of {feature}"))
    console.print(f"calls without other requests: {found.calls}")
    console.print(_candidates(found, shown))
    console.print("times of a first call (cold): " + ", ".join(f"{k} {ms:.2f} ms" for k, ms in found.times.items()))
    if version is not None and len(found.available) > 1:
        which = "the newest one" if version.version == found.available[-1] else "the labelled one"
        available = ", ".join(map(str, found.available))
        console.print(f"versions {available} are available; this is {version.version}, {which}")


def feature_table(lines: Sequence[FeatureLine]) -> "Table":
    """Values, embedding rows and numbers of the request's and the first candidate's features."""
    from rich.table import Column, Table  # noqa: PLC0415

    whole = (Column(name, no_wrap=True) for name in ("feature", "side"))
    table = Table(*whole, "value in the request", "rows of the fused table, or what the model gets", box=None)
    for line in lines:
        if line.items is not None:
            encoded = " ".join(printable(str(item)) for item in line.items) or "in an Example"
        elif line.number is None:
            encoded = " ".join(map(str, line.rows or ()))
        else:
            encoded = f"{line.number:.17g}" if line.is_exact else f"{line.number:.4f}"
        table.add_row(printable(line.name), _SIDES[line.group], _shown(line), encoded)
    return table


def _shown(line: FeatureLine) -> str:
    """A value as JSON, and whether it counts as missing."""
    text = "" if line.value is None else f"{printable(json.dumps(line.value)):.40} "
    return f"{text}(missing)" if line.state in ("missing", "denied") else text.rstrip()


def _table_line(encoded: EncodedRequest) -> str:
    """The topic of the ads, its position, and the ads that it does not have there."""
    position, unknown = encoded.position, encoded.unknown
    assert position is not None, "the caller has checked it"
    line = f"ads: topic {position.topic} at {','.join(map(str, position.offsets))}"
    if unknown is None:
        return line
    names = [encoded.ad_ids[i] for i in unknown.nonzero()[0].tolist()]
    rest = f" and {len(names) - _UNKNOWN} more" if len(names) > _UNKNOWN else ""
    return f"{line}; not in it: {', '.join(names[:_UNKNOWN])}{rest}"


def _candidates(found: Explanation, shown: int) -> "Table":
    from rich.table import Table  # noqa: PLC0415

    scores = () if found.ctr is None else ("ctr", "ratio to the spec's prior")
    answered = () if found.answered is None else ("ctr in the answer",)
    table = Table("candidate", "ad", "cache key", *scores, *answered, box=None)
    for i in range(min(shown, found.encoded.size)):
        row = [str(i), printable(found.encoded.ad_ids[i]), found.cache_key(i)]
        if found.ctr is not None:
            row += [f"{found.ctr[i]:.6f}", f"{found.ctr[i] / found.layout.spec.prior:.2f}"]
        if found.answered is not None:
            row.append(f"{found.answered[i]:.6f}")
        table.add_row(*row)
    return table
