"""The user, request and time of impressions, in 64 bits each, so that groups are exact."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from streamer.features.hashing import MISSING, TextHasher
from streamer.types import U64

I64 = npt.NDArray[np.int64]

UNKNOWN = 0
"""The number of a user or request without an id."""


@dataclass(frozen=True, slots=True)
class Identities:
    """User, request and time of n impressions.

    Attributes:
        users, requests: uint64 [n]: XXH3-64 of the id's text, `UNKNOWN` without an id. The requests of a click log are
            its line numbers, from 1.
        times: int64 [n]: ms since 1970-01-01 UTC.
    """

    users: U64
    requests: U64
    times: I64

    def __getitem__(self, rows: slice | npt.NDArray[np.intp]) -> "Identities":
        """Those of some of the impressions."""
        return Identities(self.users[rows], self.requests[rows], self.times[rows])

    @classmethod
    def joined(cls, parts: "Sequence[Identities]") -> Self:
        """Concatenates the parts."""
        names = ("users", "requests", "times")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


class IdHasher:
    """XXH3-64 of ids, as the encoder hashes texts: 3, 3.0 and "3" are one id.

    Missing ids (null, the empty text, NaN) are `UNKNOWN`.
    """

    def __init__(self) -> None:
        self._hash = TextHasher()

    def __call__(self, ids: Sequence[object]) -> U64:
        """The numbers of ids, uint64 [len(ids)]."""
        hashes = self._hash(ids)
        hashes[hashes == MISSING] = UNKNOWN
        return hashes
