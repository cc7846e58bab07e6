"""Requests of other content types, as the JSON that codecs of other packages make of them."""

from collections.abc import Sequence

from streamer.extensions import request_readers
from streamer.formats.content_type import BINARY_TYPE, JSON_TYPE, content_type, media_type
from streamer.types import Header

_MAX_TEXT = 200


class OtherTypes:
    """Requests by the codecs of these names."""

    def __init__(self, names: Sequence[str]) -> None:
        """Raises ConfigError: as `request_readers`."""
        self._readers = request_readers(names)

    def json_of(self, value: bytes, headers: Sequence[Header]) -> bytes:
        """The JSON of a request whose content type is neither JSON nor Protobuf.

        Raises:
            ValueError: no codec reads the content type, or the codec cannot read the request.
        """
        name = media_type(headers)
        if name not in self._readers:
            *others, last = (JSON_TYPE, BINARY_TYPE, *self._readers)
            got = f"{content_type(headers)!r:.60}"
            raise ValueError(f"content-type: expected {', '.join(others)} or {last}, got {got}")
        try:
            document = self._readers[name].read(value)
        except Exception as error:
            text = str(error) if isinstance(error, ValueError) else repr(error)
            raise ValueError(f"record: {name}: {' '.join(text.split()):.{_MAX_TEXT}}") from error
        if not isinstance(document, bytes):
            raise ValueError(f"record: {name}: its codec returned {type(document).__name__}, not bytes")  # noqa: TRY004
        return document
