"""Ads from a compacted topic: the values and Protocols that several packages share. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.void]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TablePosition:
    """How far a table had read its topic: the next offset of each partition, by its number."""

    topic: str
    offsets: tuple[int, ...]


def ad_id_of(key: bytes | None) -> str:
    """The ad of a record with this key.

    Raises:
        ValueError: the key is no ad id.
    """
    if not key:
        raise ValueError("key: expected the ad id, got nothing")
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise ValueError("key: expected the ad id in UTF-8") from None


class FoundAds(NamedTuple):
    """The rows of n ads in the order of their ids.

    Attributes:
        rows: structured [n], contiguous, with the fields of the `RowForm`'s dtype, at other offsets perhaps. The
            caller may change them. Arbitrary where not known.
        known: bool [n], whether the table contains the ad.
        position: that of the table when it had these rows.
    """

    rows: Rows
    known: Mask
    position: TablePosition


class AdRecord(NamedTuple):
    """A record of the topic.

    Attributes:
        value: None: the ad is deleted.
        timestamp_ms: the record's own timestamp, milliseconds since the epoch.
        unreadable: why nothing but the position is known; None if the record is complete.
    """

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    unreadable: str | None = None


class AdsBatch(NamedTuple):
    """Records in the order of each partition.

    Attributes:
        offsets: the next offset of every partition after these records.
        ends: the end of each partition for which a broker has answered since the last batch.
    """

    records: Sequence[AdRecord]
    offsets: Mapping[int, int]
    ends: Mapping[int, int]


class LogBounds(NamedTuple):
    """The topic when its reading began.

    Attributes:
        topic_id: 32 hexadecimal digits; empty if the brokers are older than topic ids.
        starts: the first position of each partition.
        ends: the next offset of each partition.
    """

    topic_id: str
    starts: Mapping[int, int]
    ends: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class LostPosition:
    """The topic has no records at the positions of a table: the table has to be loaded again.

    Attributes:
        reason: `recreated`: another topic has the name now; `deleted`: records after the position are gone;
            `truncated`: the log ends before the position.
    """

    reason: Literal["recreated", "deleted", "truncated"]
    detail: str


class AdsLog(Protocol):
    """The topic, read from given positions. One reader at a time."""

    async def topic_id(self) -> str:
        """The topic's id: 32 hexadecimal digits; empty if the brokers are older than topic ids.

        Raises:
            UnreachableError: the brokers cannot be asked now, or there is no such topic.
        """
        ...

    async def open(self, offsets: Mapping[int, int], topic_id: str) -> LogBounds | LostPosition:
        """Connects, and begins at these next offsets.

        Partitions without one are read from their beginning. `topic_id`: of the topic that the offsets belong to;
        empty: unknown.

        Raises:
            UnreachableError: the topic cannot be read now.
        """
        ...

    async def read(self, most: int) -> AdsBatch | LostPosition:
        """Waits a moment for records, and returns at most so many of them.

        Raises:
            UnreachableError: the topic cannot be read now; `open` begins again.
        """
        ...

    async def close(self) -> None:
        """Disconnects."""
        ...

    def outage(self) -> str | None:
        """Why some partitions cannot be read now; None if all can."""
        ...


class AdTable(Protocol):
    """Rows of ads by id, of one spec."""

    def lookup(self, ad_ids: Sequence[str]) -> FoundAds:
        """The rows of these ads; copies. It never waits."""
        ...


class RowForm(Protocol):
    """The form of an encoded ad in a table.

    Attributes:
        dtype: of a row, with a fixed size.
        fingerprint: equal forms have equal ones; 32 hexadecimal digits.
    """

    @property
    def dtype(self) -> np.dtype[np.void]: ...
    @property
    def fingerprint(self) -> str: ...

    def document(self, key: bytes | None, value: bytes) -> Mapping[str, Any]:
        """The candidate in a record of the topic.

        Raises:
            ValueError: the record is no ad; the text says why.
        """
        ...

    def encode(self, documents: Sequence[Mapping[str, Any]]) -> Rows:
        """The rows of n candidates, structured [n]."""
        ...
