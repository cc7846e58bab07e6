"""Requests to the containers' broker, from the host."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sandbox.broker.topics import Topics
from sandbox.traffic.checker import STATUSES
from sandbox.traffic.report import TrafficReport
from sandbox.traffic.run import run_traffic
from sandbox.world.bid_requests import CandidatesBy, RequestFactory
from sandbox.world.world import World

BOOTSTRAP = "127.0.0.1:29092"
"""The address that the compose file publishes."""
_TOPICS = Topics("bid-requests", "ctr-scores", "dead-letters")
# As `python -m sandbox traffic`: its topic of ads has the ads of this world.
_SEED = 7


@dataclass(frozen=True, slots=True)
class Load:
    """Open-loop traffic.

    Attributes:
        rate: requests/s; candidates: of each request; by: their form; budget_ms: of each request.
        prefix: of the request ids.
    """

    prefix: str
    rate: float = 20.0
    candidates: int = 50
    by: CandidatesBy = "rows"
    budget_ms: float = 5_000.0


def send(load: Load, *, seconds: float = 0.0, meanwhile: Callable[[], None] | None = None) -> TrafficReport:
    """Sends for `seconds`, or until `meanwhile` returns, and checks every answer.

    Answers to the service `traffic` count as `unknown`.
    """
    factory = RequestFactory(
        World(seed=_SEED),
        candidates=load.candidates,
        layout=load.by,
        deadline_ms=load.budget_ms,
        prefix=load.prefix,
    )
    return run_traffic(BOOTSTRAP, _TOPICS, factory, rate=load.rate, seconds=seconds, meanwhile=meanwhile)


def fault_of(report: TrafficReport, *, duplicates_allowed: bool) -> str:
    """What is wrong with the answers; empty if each request has a correct one. Pure."""
    found = {"lost": report.lost, "dead-lettered": report.dead_lettered, **report.wrong}
    if not duplicates_allowed:
        found["duplicates"] = report.duplicates
    return ", ".join(f"{count} {name}" for name, count in found.items() if count)


def not_ok(report: TrafficReport) -> float:
    """The share of requests without an answer with status `ok`. Pure."""
    return 1.0 - report.statuses.get("ok", 0) / max(1, report.requests_sent)


def seconds_without_ok(report: TrafficReport) -> int:
    """Seconds of the traffic of whose requests none has an answer with status `ok`. Pure."""
    sent_at = report.times.received_at - report.times.latency_ms / 1e3
    second = np.floor(sent_at).astype(np.intp)
    return len(np.unique(second)) - len(np.unique(second[report.times.status == STATUSES.index("ok")]))
