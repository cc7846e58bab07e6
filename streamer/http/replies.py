"""The reply to a request: its answer, and an HTTP status that says how it ended. Pure."""

from dataclasses import dataclass
from http import HTTPStatus

import orjson

from streamer.formats.content_type import JSON_TYPE
from streamer.types import DeadLetter, ScoreMessage

RETRY_AFTER = "1"
"""Seconds after which a request that was shed may be sent again."""
CLIENT_LEFT = 499
"""Code of a request whose client left before the reply; it is counted and never sent."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, body, whether the connection ends with it, and the body's content type.

    `traceparent`: the context of the request's span, if it is sampled.
    """

    status: int
    body: bytes
    closes: bool = False
    content_type: str = JSON_TYPE
    traceparent: str | None = None


def rejection(status: HTTPStatus, reason: str, *, closes: bool = False) -> Reply:
    """The reply to a request without an answer."""
    return Reply(status, orjson.dumps({"reason": reason}), closes)


def reply_to(result: ScoreMessage | DeadLetter, answer: bytes | None, content_type: str = JSON_TYPE) -> Reply:
    """The reply with an answer's bytes, or with the reason of a dead letter.

    200: every candidate has a score or a prior. 400: the request cannot be read. 503: shed, because a bound was reached
    or no call would have replied in time. 504: the deadline passed. 500: an internal error.
    """
    if isinstance(result, DeadLetter):
        is_defect = result.stage == "pipeline"
        return rejection(HTTPStatus.INTERNAL_SERVER_ERROR if is_defect else HTTPStatus.BAD_REQUEST, result.reason)
    assert answer is not None, "every other result is published"
    return Reply(_status(result), answer, content_type=content_type)


def _status(message: ScoreMessage) -> HTTPStatus:
    if message.cause is not None:
        is_shed = message.cause == "overload"
        return HTTPStatus.SERVICE_UNAVAILABLE if is_shed else HTTPStatus.INTERNAL_SERVER_ERROR
    if message.status == "invalid":
        return HTTPStatus.BAD_REQUEST
    return HTTPStatus.GATEWAY_TIMEOUT if message.status == "expired" else HTTPStatus.OK
