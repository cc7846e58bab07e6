"""What a dead letter says of itself, in the headers that the scorer gives it."""

from confluent_kafka import Message

REASON = "dead_letter.reason"


def reason_of(message: Message) -> str:
    """Why the record could not be answered; empty where it does not say."""
    value = dict(message.headers() or []).get(REASON)
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""
