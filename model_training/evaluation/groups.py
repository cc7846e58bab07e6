"""The users and requests of impressions: groups of the GAUC, and units of intervals."""

from dataclasses import dataclass

import numpy as np

from model_training.data.examples import Examples
from model_training.data.identities import UNKNOWN
from model_training.evaluation.comparison import Codes
from streamer.types import U64


@dataclass(frozen=True, slots=True)
class GroupCounts:
    """How many users and requests examples have.

    Attributes:
        users, requests: their number; None if no example has an id.
        without_user, without_request: examples without this id. They count in no user's or request's AUC.
    """

    users: int | None
    requests: int | None
    without_user: int
    without_request: int


@dataclass(frozen=True, slots=True)
class Groups:
    """The users and requests of n examples.

    Attributes:
        users, requests: [n], numbers from 0, and -1 for an example without id; None if no example has an id.
    """

    users: Codes | None
    requests: Codes | None
    counts: GroupCounts

    @classmethod
    def of(cls, examples: Examples) -> "Groups":
        """The groups by the examples' 64-bit ids; none if the examples have no `Identities`."""
        n, ids = len(examples), examples.identities
        if ids is None:
            return cls(None, None, GroupCounts(None, None, n, n))
        users, requests = _codes(ids.users), _codes(ids.requests)
        number_of_users, number_of_requests = (
            None if codes is None else int(codes.max()) + 1 for codes in (users, requests)
        )
        without_user, without_request = (int((part == UNKNOWN).sum()) for part in (ids.users, ids.requests))
        counts = GroupCounts(number_of_users, number_of_requests, without_user, without_request)
        return cls(users, requests, counts)


def _codes(ids: U64) -> Codes | None:
    known = ids != UNKNOWN
    if not known.any():
        return None
    codes = np.full(len(ids), -1, np.intp)
    codes[known] = np.unique(ids[known], return_inverse=True)[1]
    return codes
