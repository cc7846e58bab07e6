"""What a dead letter says of itself, in the headers that the scorer gives it."""

import orjson
from confluent_kafka import Message

REASON = "dead_letter.reason"


def reason_of(message: Message) -> str:
    """Why the record could not be answered; empty where it does not say."""
    value = dict(message.headers() or []).get(REASON)
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def request_id_of(message: Message) -> str | None:
    """The id of the request that the record was, if it was one."""
    try:
        found = orjson.loads(message.value() or b"")
    except orjson.JSONDecodeError:
        return None
    request_id = found.get("request_id") if isinstance(found, dict) else None
    return request_id if isinstance(request_id, str) else None
