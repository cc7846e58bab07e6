"""A request of the simulation, and its answer."""

from dataclasses import dataclass, field
from typing import Literal

from streamer.deadline import Deadline
from streamer.scoring.batching import Ticket

Status = Literal["ok", "fallback", "expired"]


@dataclass(slots=True, eq=False)
class Request:
    """One request and its answer.

    Attributes:
        sent: when the bidder sent it, seconds; answered: when the ranker has its answer, NaN before.
        share: a number in [0, 1) of its user, by which a ramp moves users to a new version.
        received, scored: when the worker read it and when it had the scores; NaN before.
        rows_left: its candidates without scores.
    """

    number: int
    partition: int
    sent: float
    deadline: Deadline
    share: float
    status: Status | None = None
    answered: float = float("nan")
    received: float = float("nan")
    scored: float = float("nan")
    rows_left: int = 0
    ticket: Ticket | None = field(default=None, repr=False)
