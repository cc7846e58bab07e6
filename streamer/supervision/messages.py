"""The messages between a supervisor and a worker: one JSON object in one line each. Pure."""

from typing import Literal

import msgspec

from streamer.rollout.orders import ModelOrders
from streamer.types import Partition

Offset = tuple[str, int, int, str]
"""Topic, partition, offset and metadata of a commit."""


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The worker can take over partitions, as soon as it has the orders."""


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """The worker reads these partitions.

    `lost`: it was to open these and does not read them. `failing`: it could not open these, and tries again.
    """

    partitions: list[Partition]
    lost: list[Partition] = []
    failing: list[Partition] = []


class Released(msgspec.Struct, frozen=True, tag="released"):
    """The worker reads these partitions no more; their safe offsets are committed."""

    partitions: list[Partition]
    unanswered: int = 0


class Commit(msgspec.Struct, frozen=True, tag="commit"):
    """A request to commit offsets; `Committed` with the same id answers it."""

    id: int
    offsets: list[Offset]


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """The worker is alive.

    `suspects`: partitions with deaths at their position, with the number of deaths. `models`: the orders that it has.
    """

    suspects: list[tuple[Partition, int]] = []
    models: list[ModelOrders] = []


class Adopted(msgspec.Struct, frozen=True, tag="adopted"):
    """The worker has executed `Adopt` with this id. `models`: the orders that it has now."""

    id: int
    models: list[ModelOrders]
    error: str = ""


class Assign(msgspec.Struct, frozen=True, tag="assign"):
    """Open these partitions."""

    partitions: list[Partition]


class Release(msgspec.Struct, frozen=True, tag="release"):
    """Drain, commit and release these partitions."""

    partitions: list[Partition]


class Adopt(msgspec.Struct, frozen=True, tag="adopt"):
    """Take these orders over; `Adopted` with the same id answers it."""

    id: int
    models: list[ModelOrders]


class Admitted(msgspec.Struct, frozen=True, tag="admitted"):
    """The worker has the orders: it may answer requests over HTTP, without an `Assign`."""


class Committed(msgspec.Struct, frozen=True, tag="committed"):
    """The outcome of a commit. `lost`: the group has moved the partitions meanwhile."""

    id: int
    outcome: Literal["stored", "lost", "failed"]
    error: str = ""


FromWorker = Ready | Opened | Released | Commit | Beat | Adopted
ToWorker = Assign | Release | Adopt | Admitted | Committed

FROM_WORKER: msgspec.json.Decoder[FromWorker] = msgspec.json.Decoder(FromWorker)
TO_WORKER: msgspec.json.Decoder[ToWorker] = msgspec.json.Decoder(ToWorker)
