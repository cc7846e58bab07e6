"""The prefix that the serialisers of a schema registry put before a Protobuf message. Pure.

A zero byte, the schema's id in 4 bytes, and the message's place in the schema: their number and the indexes, as zigzag
varints. One zero byte means the first message. Neither JSON in UTF-8 nor a Protobuf message begins with a zero byte.
"""

from collections.abc import Sequence
from typing import TypeGuard

from streamer.formats.content_type import form_of
from streamer.types import Header

REQUEST_PLACE = (0,)
"""The request is the first message of its schema."""
_INDEXES_AT = 5
_MAX_INDEXES = 8


def is_framed(value: bytes | None) -> TypeGuard[bytes]:
    """Whether a record begins with the zero byte of such a prefix."""
    return value is not None and value.startswith(b"\0")


def has_prefix(value: bytes | None, headers: Sequence[Header]) -> TypeGuard[bytes]:
    """Whether a record is read as one with a prefix: not if another package reads its type."""
    return is_framed(value) and form_of(headers) is not None


def schema_id(value: bytes) -> int:
    """The id in a prefix; the record is long enough if `unframed` has taken it."""
    return int.from_bytes(value[1:_INDEXES_AT], "big")


def unframed(value: bytes, message: str, place: Sequence[int]) -> bytes:
    """The message behind its prefix.

    `message`: the name of the expected one, `place` its indexes in the schema.

    Raises:
        ValueError: the prefix is not complete, or names another message of its schema.
    """
    indexes, end = _read_indexes(value)
    if indexes != list(place):
        raise ValueError(
            f"record: expected message index {list(place)} ({message}) in the schema registry's prefix, got {indexes}"
        )
    return value[end:]


def message_in(value: bytes) -> bytes:
    """The message behind its prefix, at any place. Raises ValueError: it is not complete."""
    return value[_read_indexes(value)[1] :]


def prefix(number: int, place: Sequence[int]) -> bytes:
    """The prefix of messages at `place` in the schema of this id."""
    indexes = b"\0" if list(place) == [0] else b"".join(_varint(n << 1) for n in (len(place), *place))
    return b"\0" + number.to_bytes(4, "big") + indexes


def _read_indexes(value: bytes) -> tuple[list[int], int]:
    """The indexes, and where the message begins."""
    count, at = _zigzag(value, _INDEXES_AT)
    if count == 0:
        return [0], at
    if not 0 < count <= _MAX_INDEXES:
        raise ValueError(f"record: {count} message indexes in the schema registry's prefix, more than {_MAX_INDEXES}")
    indexes = []
    for _ in range(count):
        index, at = _zigzag(value, at)
        indexes.append(index)
    return indexes, at


def _zigzag(value: bytes, at: int) -> tuple[int, int]:
    """A number of at most 5 bytes, and the place behind it."""
    number = 0
    for shift, byte in enumerate(value[at : at + 5]):
        number |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at + shift + 1
    raise ValueError("record: the schema registry's prefix is not complete")


def _varint(number: int) -> bytes:
    low = []
    while number > 0x7F:
        low.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*low, number])
