"""Reads the reason and the request id of a dead letter."""

import orjson
from confluent_kafka import Message

REASON = "dead_letter.reason"


def reason_of(message: Message) -> str:
    """The reason in the headers of a dead letter; empty if it has none."""
    value = dict(message.headers() or []).get(REASON)
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def request_id_of(message: Message) -> str | None:
    """The id of the request in the record; None if the record is no request."""
    try:
        found = orjson.loads(message.value() or b"")
    except orjson.JSONDecodeError:
        return None
    request_id = found.get("request_id") if isinstance(found, dict) else None
    return request_id if isinstance(request_id, str) else None
