"""The orders for one model, as one process hands them over to another. Pure."""

from collections.abc import Sequence

import msgspec


class Shared(msgspec.Struct, frozen=True):
    """A version or a label, and its share of the users in [0, 1]."""

    version: int | str
    share: float


class ModelOrders(msgspec.Struct, frozen=True):
    """The decisions of operators and guards about one model, for a new process.

    Attributes:
        serving: the version that serves the users.
        rolled_back: versions that an operator or a guard has rolled back.
    """

    model: str
    serving: int | None = None
    pinned: int | None = None
    canary: Shared | None = None
    shadow: Shared | None = None
    rolled_back: frozenset[int] = frozenset()


def orders_of(described: Sequence[object]) -> list[ModelOrders]:
    """The orders in the descriptions that `/model` shows."""
    return msgspec.convert(described, list[ModelOrders])
