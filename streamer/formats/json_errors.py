"""Why a document is not valid JSON, or has another shape."""

import json

import msgspec
import orjson


def decode_reason(error: Exception, value: bytes) -> str:
    """Puts the field first. msgspec's text is "Expected `array`, got `int` - at `$.candidates`"."""
    if isinstance(error, RecursionError):
        return "record: nested too deeply"
    text = str(error)
    if isinstance(error, msgspec.ValidationError):
        what, _, where = text.partition(" - at ")
        field = where.strip("`").removeprefix("$").removeprefix(".") or "record"
        return f"{field}: {what[:1].lower()}{what[1:]}".replace("`", "")
    if not (encoding := json.detect_encoding(value)).startswith("utf-8"):
        return f"record: not valid JSON: expected UTF-8, got {encoding.upper()}"
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError as clearer:
        text = str(clearer)
    return f"record: not valid JSON: {text}"
