"""Ads from a compacted topic: what the encoder, the tables and the stages share. Pure values and Protocols."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.void]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TablePosition:
    """How far a table had read its topic: the next offset of each partition, by its number."""

    topic: str
    offsets: tuple[int, ...]


class FoundAds(NamedTuple):
    """The rows of n ads in the order of their ids.

    Attributes:
        rows: structured [n], of the `RowForm`'s dtype; arbitrary where not known.
        known: bool [n], whether the table contains the ad.
        position: that of the table when it had these rows.
    """

    rows: Rows
    known: Mask
    position: TablePosition


class AdTable(Protocol):
    """Rows of ads by id, of one spec."""

    def lookup(self, ad_ids: Sequence[str]) -> FoundAds:
        """The rows of these ads. It never waits."""
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
