"""The JSON Schemas of answers, dead letters, impressions and clicks. Pure."""

from typing import Final, get_args, get_type_hints

import msgspec

from streamer.kafka.dead_letters import REPLAYS, VALUE_BYTES
from streamer.schemas.paths import Schema
from streamer.schemas.request import DIALECT
from streamer.types import SOURCES, DeadLetterStage, Origin, StageTimes, Status

SCORED: Final = ("ok", "partial", "fallback")
"""The statuses of answers with columns."""

_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_DIGITS: Final[Schema] = {"type": "string", "pattern": "^[0-9]+$"}
_JSON_TYPES: Final[dict[type, Schema]] = {str: {"type": "string"}, int: _COUNT}


def answer_schema() -> Schema:
    """An answer in JSON. The three columns are there if the status is one of `SCORED`."""
    columns = {
        "ad_id": _described("Ad ids in the request's order.", {"type": "string", "minLength": 1}),
        "ctr": _described("Click probabilities.", {"type": "number", "minimum": 0, "maximum": 1}),
        "source": _described("Where each score is from; `prior` is none of a model.", {"enum": list(SOURCES)}),
    }
    no_column = {"not": {"anyOf": [{"required": [name]} for name in (*columns, "model")]}}
    return {
        "$schema": DIALECT,
        "title": "Answer",
        "description": "The answer to a request. A reader ignores keys that it does not know.",
        "type": "object",
        "properties": {
            "request_id": {"type": "string", "minLength": 1},
            "status": {"enum": list(get_args(Status))},
            "model": _object({"name": {"type": "string"}, "version": _COUNT}, "The model version that scored."),
            "ads": _object(
                {"topic": {"type": "string"}, "positions": {"type": "array", "items": _COUNT}},
                "How far the topic of ads had been read: the next offset of each partition, by its number.",
            ),
            "reason": {"type": "string", "description": "Why scores are missing, or what is wrong in the request."},
            **columns,
            "ms": _object(
                {field.name: {"type": "number", "minimum": 0} for field in msgspec.structs.fields(StageTimes)},
                "Milliseconds in each stage; `total` is from the receipt to the answer.",
            ),
            "batch_rows": {"type": "integer", "minimum": 1, "description": "Rows of the largest call."},
            "origin": _object(
                {name: _JSON_TYPES[kind] for name, kind in get_type_hints(Origin).items()},
                "The request's record. Answers with the same origin are duplicates.",
            ),
        },
        "required": ["request_id", "status", "ms", "origin"],
        "allOf": [
            {
                "if": {"properties": {"status": {"enum": list(SCORED)}}},
                "then": {"required": [*columns, "model"]},
                "else": no_column,
            },
            {"if": {"properties": {"status": {"const": "invalid"}}}, "then": {"required": ["reason"]}},
            {
                "if": {"properties": {"status": {"const": "ok"}}},
                "then": {"properties": {"source": {"items": {"enum": [s for s in SOURCES if s != "prior"]}}}},
            },
        ],
    }


def dead_letter_headers_schema() -> Schema:
    """The headers of a dead letter. Its key and value are those of the record, unchanged."""
    facts: Schema = {
        "reason": {"type": "string", "description": "What is wrong, with the field."},
        "stage": {"enum": list(get_args(DeadLetterStage)), "description": "The stage that failed."},
        "topic": {"type": "string", "description": "The record's topic, with its partition and offset."},
        "partition": _DIGITS,
        "offset": _DIGITS,
        "timestamp_ms": {
            "type": "string",
            "pattern": "^-?[0-9]+$",
            "description": "The record's own timestamp, milliseconds since 1970-01-01 UTC.",
        },
    }
    headers = {f"dead_letter.{name}": schema for name, schema in facts.items()}
    optional = {
        VALUE_BYTES: {**_DIGITS, "description": "The size of a value that was too large for this topic."},
        REPLAYS: {**_DIGITS, "description": "How often the record was replayed before it came back."},
    }
    return {
        "$schema": DIALECT,
        "title": "Headers of a dead letter",
        "description": "They follow the record's own headers. If a header occurs twice, the last one counts.",
        "type": "object",
        "properties": {**headers, **optional},
        "required": list(headers),
    }


def event_schema(title: str, what: str) -> Schema:
    """An impression or a click."""
    return {
        "$schema": DIALECT,
        "title": title,
        "description": f"{what} Other keys are allowed and have no effect.",
        "type": "object",
        "properties": {
            "request_id": {"type": "string", "minLength": 1, "description": "The request for which the ad was shown."},
            "ad_id": {"type": "string", "minLength": 1},
            "timestamp_ms": {"type": "integer", "description": "The event's time, milliseconds since 1970-01-01 UTC."},
        },
        "required": ["request_id", "ad_id", "timestamp_ms"],
    }


def _described(what: str, items: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "description": what, "items": items}


def _object(properties: Schema, what: str) -> Schema:
    return {"type": "object", "description": what, "properties": properties, "required": list(properties)}
