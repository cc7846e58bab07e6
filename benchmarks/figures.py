"""Computes figures from arrays of answers. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from sandbox.traffic.checker import STATUSES, AnswerTimes
from sandbox.traffic.report import TrafficReport
from sandbox.world.population import F64

_OK = STATUSES.index("ok")
_NAN = float("nan")
_Run = TypeVar("_Run")


def percentile(values: F64, q: float) -> float:
    """The q-th percentile of the values that are not NaN; NaN without such values."""
    known = values[~np.isnan(values)]
    return float(np.percentile(known, q)) if len(known) else _NAN


def median_run(runs: Iterable[_Run], cost: Callable[[_Run], float]) -> _Run:
    """The run with the median cost; of two in the middle the cheaper one."""
    ordered = sorted(runs, key=cost)
    return ordered[(len(ordered) - 1) // 2]


def faults(report: TrafficReport) -> int:
    """Number of requests without exactly one answer, and of wrong answers."""
    return report.lost + report.duplicates + report.unknown + sum(report.wrong.values())


def sent_at(times: AnswerTimes) -> F64:
    """Send times of the answered requests, float64 [n], monotonic seconds."""
    return times.received_at - times.latency_ms / 1e3


@dataclass(frozen=True, slots=True)
class Load:
    """Figures of open-loop traffic; rates in requests per second, times in ms.

    Attributes:
        offered: requests sent.
        goodput: answers with status `ok` that were received before the deadline of their request.
        p50, p99: end-to-end latency of those answers; NaN without any.
        batch_rows: mean rows of their batches.
    """

    offered: float
    goodput: float
    p50: float
    p99: float
    batch_rows: float


def under_load(times: AnswerTimes, budget_ms: float, skip_s: float) -> Load:
    """The figures of one load; each request has `budget_ms`.

    It counts the time from `skip_s` after the first send to the last send. An overloaded system would look better with
    the answers of the empty system at the start, and with those after the last send.
    """
    sent = sent_at(times)
    if not len(sent) or sent.max() - sent.min() <= skip_s:
        return Load(_NAN, _NAN, _NAN, _NAN, _NAN)
    start, end = float(sent.min()) + skip_s, float(sent.max())
    good = (times.status == _OK) & (times.latency_ms <= budget_ms)
    good &= (times.received_at >= start) & (times.received_at <= end)
    rows = times.batch_rows[good]
    return Load(
        offered=float((sent >= start).sum()) / (end - start),
        goodput=float(good.sum()) / (end - start),
        p50=percentile(times.latency_ms[good], 50),
        p99=percentile(times.latency_ms[good], 99),
        batch_rows=float(rows[rows > 0].mean()) if (rows > 0).any() else _NAN,
    )


def ok_share(times: AnswerTimes, start: float, end: float) -> float:
    """The share of the requests sent in [start, end) with an `ok` answer; NaN without requests.

    Requests without an answer are not in `times`: check that there are none.
    """
    sent = sent_at(times)
    chosen = (sent >= start) & (sent < end)
    return float((times.status[chosen] == _OK).mean()) if chosen.any() else _NAN


@dataclass(frozen=True, slots=True)
class Switch:
    """Scoring times around a change of the version, p99 in ms.

    Attributes:
        before: from the start to the folder of the new version.
        loading: from there until the new version is AVAILABLE.
        around: from 5 s before the first answer of the new version to 5 s after the last answer of the old version.
        around_loaded: the same without the part of `loading` in it.
        first_new, last_old: receipt of those answers, monotonic seconds; NaN without any.
        answers: number of answers in `before` and in `around`.
    """

    before: float
    loading: float
    around: float
    around_loaded: float
    first_new: float
    last_old: float
    answers: tuple[int, int]

    @property
    def ramp_s(self) -> float:
        """Seconds in which both versions answered."""
        return max(0.0, self.last_old - self.first_new)


def around_switch(
    times: AnswerTimes, new: int, *, folder_at: float, available_at: float, margin_s: float = 5.0
) -> Switch:
    """Splits the times at the switch to version `new`; only `around` overlaps other phases."""
    at, total = times.received_at, times.stage_ms["total"]
    of_new, of_old = at[times.version == new], at[times.version < new]
    before, loading = at < folder_at, (at >= folder_at) & (at < available_at)
    if not len(of_new) or not len(of_old):
        nothing = (_NAN, _NAN, _NAN, _NAN)
        return Switch(percentile(total[before], 99), percentile(total[loading], 99), *nothing, (int(before.sum()), 0))
    first, last = float(of_new.min()), float(of_old.max())
    around = (at >= first - margin_s) & (at <= max(first, last) + margin_s)
    return Switch(
        before=percentile(total[before], 99),
        loading=percentile(total[loading], 99),
        around=percentile(total[around], 99),
        around_loaded=percentile(total[around & ~loading & ~before], 99),
        first_new=first,
        last_old=last,
        answers=(int(before.sum()), int(around.sum())),
    )


def hit_ratio(report: TrafficReport) -> float:
    """The share of scored candidates that came from the cache; NaN without candidates."""
    total = sum(report.sources.values())
    return report.sources.get("cache", 0) / total if total else _NAN
