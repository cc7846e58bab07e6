"""All contracts by name. Pure."""

from collections.abc import Callable, Mapping
from typing import Final

import orjson

from streamer.extensions import request_readers
from streamer.features import FeatureSpec
from streamer.schemas.asyncapi import asyncapi
from streamer.schemas.messages import answer_schema, dead_letter_headers_schema, event_schema
from streamer.schemas.paths import Schema
from streamer.schemas.request import ad_schema, request_headers_schema, request_schema
from streamer.settings import Settings

_BUILDERS: Final[Mapping[str, Callable[[Settings, FeatureSpec | None], Schema]]] = {
    "request": lambda settings, spec: request_schema(settings.codec.max_candidates, spec),
    "request-headers": lambda settings, _: request_headers_schema(request_readers(settings.codec.formats)),
    "answer": lambda _, __: answer_schema(),
    "dead-letter-headers": lambda _, __: dead_letter_headers_schema(),
    "ad": lambda _, spec: ad_schema(spec),
    "impression": lambda _, __: event_schema("Impression", "An ad that was shown."),
    "click": lambda _, __: event_schema("Click", "A click on a shown ad."),
    "asyncapi": lambda settings, _: asyncapi(settings),
}
NAMES: Final = tuple(_BUILDERS)


def contract(name: str, settings: Settings, spec: FeatureSpec | None = None) -> Schema:
    """The JSON Schema of this name, or the document `asyncapi`.

    Raises:
        KeyError: the name is not one of `NAMES`.
        ConfigError: a codec of the settings cannot be used.
    """
    return _BUILDERS[name](settings, spec)


def text_of(schema: Schema) -> str:
    """The text of a contract's file."""
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
