"""Requests that were not scored around an event, compared with the time before it. Pure."""

import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from benchmarks.figures import sent_at
from benchmarks.report import Figure
from sandbox.traffic.checker import STATUSES
from sandbox.traffic.report import TrafficReport
from sandbox.world.population import F64, Ints

Partitions = Collection[int]
_OK = STATUSES.index("ok")


@dataclass(frozen=True, slots=True)
class Window:
    """A span of send times, in monotonic seconds; `end` is not in it."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Outcomes:
    """One value for each sent request; n requests.

    Attributes:
        sent_at: float64 [n], monotonic seconds.
        partition: int [n], of the request; -1 if it is unknown.
        ok: bool [n], whether the answer has the status `ok`. Lost and dead-lettered requests have no answer.
    """

    sent_at: F64
    partition: Ints
    ok: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, report: TrafficReport) -> Self:
        """The outcomes of a report without its wrong answers, which have their own bound."""
        times, missing = report.times, report.without_answer
        return cls(
            np.concatenate([sent_at(times), missing.sent_at]),
            np.concatenate([times.partition, missing.partition]),
            np.concatenate([times.status == _OK, np.zeros(len(missing.sent_at), dtype=np.bool_)]),
        )

    def within(self, window: Window, partitions: Partitions | None = None) -> "Outcomes":
        """The requests sent in the window, to these partitions (None: to all)."""
        chosen = (self.sent_at >= window.start) & (self.sent_at < window.end)
        if partitions is not None:
            chosen &= np.isin(self.partition, list(partitions))
        return Outcomes(self.sent_at[chosen], self.partition[chosen], self.ok[chosen])

    @property
    def not_ok(self) -> int:
        """Number of requests that were not scored."""
        return int((~self.ok).sum())

    @property
    def ok_share(self) -> float:
        """The share of scored requests; NaN without requests."""
        return float(self.ok.mean()) if len(self.ok) else float("nan")


def delayed_share(report: TrafficReport, window: Window, budget_ms: float) -> float:
    """The share of a window's requests that the brokers stored after their budget."""
    sent, delay = report.deliveries.sent_at, report.deliveries.delay_s
    chosen = (sent >= window.start) & (sent < window.end)
    return float((delay[chosen] > budget_ms / 1e3).mean()) if chosen.any() else float("nan")


@dataclass(frozen=True, slots=True)
class EventRun:
    """Traffic without an event in `control`, then with it in `event`, of the same length.

    Attributes:
        affected: the partitions that the event hits directly.
    """

    report: TrafficReport
    control: Window
    event: Window
    affected: Partitions

    def excess(self, partitions: Partitions | None = None) -> int:
        """Requests not scored in the window of the event, minus those of the control window."""
        outcomes = Outcomes.of(self.report)
        return outcomes.within(self.event, partitions).not_ok - outcomes.within(self.control, partitions).not_ok

    @property
    def ok_share_of_control(self) -> float:
        """The share of scored requests in the control window; NaN without requests."""
        return Outcomes.of(self.report).within(self.control).ok_share

    def outage_s(self, partitions: Partitions) -> float:
        """The excess in seconds of the partitions' traffic; NaN without such traffic."""
        before = len(Outcomes.of(self.report).within(self.control, partitions).ok)
        length = self.control.end - self.control.start
        return max(0, self.excess(partitions)) * length / before if before else float("nan")

    def others(self, partitions: int) -> Partitions:
        """The partitions that the event does not hit, of a topic with this number of partitions."""
        return set(range(partitions)) - set(self.affected)


def over_runs(
    name: str, values: Sequence[float], unit: str, *, at_most: float | None = None, at_least: float | None = None
) -> list[Figure]:
    """The median of the runs, which has the bound, and the value of each run."""
    each = [Figure(f"{name}_run_{run}", value, unit) for run, value in enumerate(values, 1)]
    relation: Literal["<=", ">="] = "<=" if at_least is None else ">="
    bound = at_most if at_least is None else at_least
    return [Figure(name, statistics.median(values), unit, relation, bound), *each]


def delivered_in_all(reports: Sequence[TrafficReport], *, duplicates: bool, healthy: bool = False) -> list[Figure]:
    """Figures of all runs together.

    Args:
        duplicates: the guarantee permits them.
        healthy: no request may be dead-lettered.
    """
    wrong = sum(sum(report.wrong.values()) + report.unknown for report in reports)
    return [
        Figure("sent", sum(report.requests_sent for report in reports), "requests"),
        Figure("answered", sum(report.answered for report in reports), "requests"),
        Figure("lost", sum(report.lost for report in reports), "requests", "<=", 0),
        Figure(
            "dead_lettered", sum(report.dead_lettered for report in reports), "requests", "<=", 0 if healthy else None
        ),
        Figure("duplicates", sum(report.duplicates for report in reports), "answers", "<=", None if duplicates else 0),
        Figure("wrong", wrong, "answers", "<=", 0),
    ]
