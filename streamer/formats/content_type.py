"""The form of a record by its content type."""

from collections.abc import Sequence
from typing import Literal

from streamer.types import Header

CONTENT_TYPE_HEADER = "content-type"
JSON_TYPE = "application/json"
BINARY_TYPE = "application/x-protobuf"

_BINARY = frozenset({BINARY_TYPE, "application/protobuf"})
# The last four say nothing: clients set them by default.
_JSON = frozenset(
    {JSON_TYPE, "text/json", "", "text/plain", "application/octet-stream", "application/x-www-form-urlencoded"}
)

Form = Literal["json", "binary"]


def content_type(headers: Sequence[Header]) -> str:
    """The content type in a record's headers, with its parameters; empty if there is none."""
    for name, value in headers:
        if name == CONTENT_TYPE_HEADER and value:
            return value.decode(errors="replace")
    return ""


def media_type(headers: Sequence[Header]) -> str:
    """The content type in lower case and without its parameters."""
    return content_type(headers).partition(";")[0].strip().lower()


def form_of(headers: Sequence[Header]) -> Form | None:
    """The form that the headers announce, by default JSON; None for one that is not read."""
    name = media_type(headers)
    if name in _BINARY:
        return "binary"
    return "json" if name in _JSON or name.endswith("+json") else None


def answer_type(headers: Sequence[Header]) -> str:
    """The media type of an answer with these headers: the binary one, or JSON's."""
    return BINARY_TYPE if form_of(headers) == "binary" else JSON_TYPE


def with_content_type(headers: Sequence[Header], name: str) -> list[Header]:
    """The headers with this content type in place of any other."""
    others = [header for header in headers if header[0] != CONTENT_TYPE_HEADER]
    return [*others, (CONTENT_TYPE_HEADER, name.encode())]
