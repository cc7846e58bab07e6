"""`streamer explain`: encodes and scores one request with the live model, step by step."""

import asyncio
import json
import sys
import time
from math import isfinite
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Column, Table

from streamer.commands.options import Config
from streamer.errors import ConfigError, InvalidRequestError
from streamer.features import Cross, Layout
from streamer.features.hashing import canonical, to_float
from streamer.features.kinds import Bucketised, MultiValued, Numeric
from streamer.features.paths import column_getter, getter
from streamer.features.raw_kinds import RawFeature, Text
from streamer.features.spec import AnyFeature, Group
from streamer.logs import printable
from streamer.settings import Settings, load_settings
from streamer.types import F32, F64, I32, BadRecord, BatchInputs, BidRequest, EncodedRequest, ModelVersion


def explain(
    request: Annotated[Path, typer.Argument(help="A request as JSON. - reads standard input.")],
    config: Config = None,
    candidates: Annotated[int, typer.Option(help="Number of candidates to show.")] = 5,
) -> None:
    """Encode and score one request with the serving model, and show each step.

    It publishes nothing.
    """
    settings = load_settings(config)
    try:
        value = sys.stdin.buffer.read() if str(request) == "-" else request.read_bytes()
    except OSError as error:
        raise ConfigError(f"{request}: cannot be read: {error.strerror}") from error
    asyncio.run(_explain(Console(highlight=False, markup=False), settings, value, candidates))


async def _explain(console: Console, settings: Settings, value: bytes, shown: int) -> None:
    # Imported here, so that --help does not wait for gRPC.
    from streamer.commands.live_model import connected, served  # noqa: PLC0415

    async with connected(settings) as predictor:
        serving, available = await served(predictor.control, settings, settings.predictor.models[0])
        start = time.perf_counter()
        decoded = serving.codec.decode(value, ())
        if isinstance(decoded, BidRequest) and decoded.model in settings.predictor.models[1:]:
            serving, available = await served(predictor.control, settings, decoded.model)
            start = time.perf_counter()
            decoded = serving.codec.decode(value, ())
        if isinstance(decoded, BadRecord):
            outcome = "answered `invalid`" if decoded.request_id else "dead-lettered"
            raise ConfigError(f"this record would be {outcome}: {decoded.reason}")
        parsed = time.perf_counter()
        try:
            encoded = serving.encoder.encode(decoded)
        except InvalidRequestError as error:
            raise ConfigError(f"this record would be answered `invalid`: {error}") from error
        done = time.perf_counter()
        timeout_s = settings.predictor.control_timeout_ms / 1e3
        ctr = await predictor.score(serving.version, BatchInputs.whole(encoded), timeout_s)
        replied = time.perf_counter()
    version, layout = serving.version, serving.encoder.layout
    own = decoded.deadline_ms
    budget = settings.source.budget_ms if own is None else min(own, settings.source.max_budget_ms)
    console.print(
        printable(f"request {decoded.request_id}: {encoded.size} candidates, budget {budget:g} ms, model {version}")
    )
    if encoded.consent_denied:
        console.print("consent is denied: all user features count as missing")
    console.print(feature_table(layout, decoded, encoded))
    rows = settings.batching.max_batch_rows
    for feature, count in serving.encoder.out_of_range.items():
        console.print(f"out of range, so missing: {count} numbers of {feature}")
    console.print(f"calls without other requests: {-(-encoded.size // rows)}, at most {rows} rows each")
    console.print(_candidates(layout, encoded, ctr.tolist(), shown))
    stages = {"decode": parsed - start, "encode": done - parsed, "predict": replied - done}
    console.print("times of a first call (cold): " + ", ".join(f"{k} {v * 1e3:.2f} ms" for k, v in stages.items()))
    _note_version(console, version, available)


def feature_table(layout: Layout, request: BidRequest, encoded: EncodedRequest) -> Table:
    """Values, embedding rows and numbers of the request's and the first candidate's features."""
    whole = (Column(name, no_wrap=True) for name in ("feature", "side"))
    table = Table(*whole, "value in the request", "rows of the fused table, or number", box=None)

    def value_of(feature: AnyFeature) -> str:
        if isinstance(feature, Cross):
            return ""
        if encoded.consent_denied and feature.side == "user":
            return "(missing)"
        if feature.side == "candidate":
            return _shown(feature, _of_first_candidate(request, feature.path))
        return _shown(feature, getter(feature.path)(request.fields))

    parts: tuple[tuple[Group, str, I32, F32 | None, F64 | None], ...] = (
        ("request", "user or context", encoded.request_ids, encoded.request_floats, encoded.request_numbers),
        ("candidate", "candidate 0", encoded.candidate_ids, encoded.candidate_floats, encoded.candidate_numbers),
        ("pair", "crossed with candidate 0", encoded.pair_ids, None, None),
    )
    for group, side, ids, floats, numbers in parts:
        for columns in layout.ids[group]:
            found = ids[0, columns.start : columns.start + columns.width]
            rows = " ".join(map(str, found.tolist()))
            table.add_row(printable(columns.feature.name), side, value_of(columns.feature), rows)
        for column in layout.floats[group]:
            assert floats is not None, "crosses have no numbers"
            # A foreign model gets the request's own number.
            number = f"{floats[0, column.start]:.4f}" if numbers is None else f"{numbers[0, column.start]:.17g}"
            table.add_row(printable(column.feature.name), side, value_of(column.feature), number)
    for feature in layout.spec.features:
        if isinstance(feature, RawFeature):
            side = "candidate 0" if feature.side == "candidate" else "user or context"
            table.add_row(printable(feature.name), side, value_of(feature), _raw_items(layout, encoded, feature))
    return table


def _raw_items(layout: Layout, encoded: EncodedRequest, feature: RawFeature) -> str:
    """What the model gets of a raw feature; of one that is only in an Example: its kind."""
    group: Group = "candidate" if feature.side == "candidate" else "request"
    at = next((columns for columns in layout.raw[group] if columns.feature is feature), None)
    if at is None:
        return f"{feature.kind} in an Example"
    matrices = {
        "candidate": (encoded.candidate_texts, encoded.candidate_numbers),
        "request": (encoded.request_texts, encoded.request_numbers),
    }[group]
    texts, numbers = matrices
    assert texts is not None
    assert numbers is not None
    places = range(at.start, at.start + at.width)
    if isinstance(feature, Text):
        return " ".join(printable(repr(texts[0, i].decode(errors="replace"))) for i in places)
    rests = layout.number_width(group)
    return " ".join(str(int(numbers[0, i]) + int(numbers[0, rests + i])) for i in places)


def _of_first_candidate(request: BidRequest, path: str) -> object:
    if request.rows is not None:
        return getter(path)(orjson.loads(request.rows[0]))
    column = column_getter(path)(request.columns)
    return column[0] if isinstance(column, list) else None


def _shown(feature: AnyFeature, value: object) -> str:
    """A value as JSON, and whether it counts as missing."""
    if isinstance(feature, Numeric | Bucketised):
        missing = not isfinite(to_float(value))
    else:
        has_list = isinstance(feature, MultiValued) or (isinstance(feature, RawFeature) and bool(feature.max_values))
        items = value if isinstance(value, list) and has_list else [value]
        missing = all(canonical(item) is None for item in items)
    text = "" if value is None else f"{printable(json.dumps(value)):.40} "
    return f"{text}(missing)" if missing else text.rstrip()


def _candidates(layout: Layout, encoded: EncodedRequest, ctr: list[float], shown: int) -> Table:
    table = Table("candidate", "ad", "cache key", "ctr", "ratio to the spec's prior", box=None)
    for i in range(min(shown, encoded.size)):
        key = "".join(f"{half:016x}" for half in encoded.keys[i].tolist())
        table.add_row(str(i), printable(encoded.ad_ids[i]), key, f"{ctr[i]:.6f}", f"{ctr[i] / layout.spec.prior:.2f}")
    return table


def _note_version(console: Console, version: ModelVersion, available: list[int]) -> None:
    if len(available) > 1:
        which = "the newest one" if version.version == available[-1] else "the labelled one"
        console.print(f"versions {', '.join(map(str, available))} are available; this is {version.version}, {which}")
