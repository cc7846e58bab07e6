"""The figures of a simulated run. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.figures import percentile
from benchmarks.simulation.request import Request
from sandbox.world.population import F64
from streamer.scoring.cache import Bools


@dataclass(frozen=True, slots=True)
class Outcome:
    """All requests of a run, in order of their sending; times in seconds.

    Attributes:
        sent, latency, scoring: float64 [n]; from sending to the ranker's receipt, and from a worker's read to its
            answer.
        ok: bool [n], scored in time.
        expired: bool [n], answered without a score because they were late.
        worker_used, server_used: the share of the time in which the cores of each worker and of each server were busy.
        calls, rejected: of the model servers.
    """

    sent: F64
    latency: F64
    scoring: F64
    ok: Bools
    expired: Bools
    worker_used: F64
    server_used: F64
    calls: int
    rejected: int

    def between(self, start: float, end: float) -> "Window":
        """The figures of the requests that were sent in [start, end)."""
        chosen = (self.sent >= start) & (self.sent < end)
        good = chosen & self.ok
        offered = int(chosen.sum())
        return Window(
            requests=offered,
            ok_share=float(good.sum()) / offered if offered else float("nan"),
            goodput=float(good.sum()) / (end - start),
            p50_ms=1e3 * percentile(self.latency[good], 50),
            p99_ms=1e3 * percentile(self.latency[good], 99),
            scoring_p50_ms=1e3 * percentile(self.scoring[good], 50),
            scoring_p99_ms=1e3 * percentile(self.scoring[good], 99),
        )


@dataclass(frozen=True, slots=True)
class Window:
    """Requests, those scored in time as a share and per second, and the times of these in ms."""

    requests: int
    ok_share: float
    goodput: float
    p50_ms: float
    p99_ms: float
    scoring_p50_ms: float
    scoring_p99_ms: float


def outcome_of(
    requests: Sequence[Request], worker_used: Sequence[float], server_used: Sequence[float], calls: int, rejected: int
) -> Outcome:
    """The outcome of answered requests."""
    sent = np.array([request.sent for request in requests])
    answered = np.array([request.answered for request in requests])
    status = np.array([request.status or "" for request in requests])
    late = np.array([request.answered > request.deadline.at for request in requests], dtype=np.bool_)
    return Outcome(
        sent=sent,
        latency=answered - sent,
        scoring=np.array([request.scored - request.received for request in requests]),
        ok=(status == "ok") & ~late,
        expired=status == "expired",
        worker_used=np.array(worker_used),
        server_used=np.array(server_used),
        calls=calls,
        rejected=rejected,
    )


def joined(outcomes: Sequence[Outcome]) -> Outcome:
    """One outcome of independent cells."""

    def column(name: str) -> Any:
        return np.concatenate([getattr(one, name) for one in outcomes])

    return Outcome(
        sent=column("sent"),
        latency=column("latency"),
        scoring=column("scoring"),
        ok=column("ok"),
        expired=column("expired"),
        worker_used=column("worker_used"),
        server_used=column("server_used"),
        calls=sum(one.calls for one in outcomes),
        rejected=sum(one.rejected for one in outcomes),
    )
