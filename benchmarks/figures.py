"""What figures are made of: arrays of answers in, numbers out. Nothing here runs a process or reads a clock."""

from dataclasses import dataclass

import numpy as np

from sandbox.checker import STATUSES, AnswerTimes
from sandbox.population import F64
from sandbox.ranker import TrafficReport

_OK = STATUSES.index("ok")
_NAN = float("nan")


def percentile(values: F64, q: float) -> float:
    """The q-th percentile of what is known; NaN where nothing is."""
    known = values[~np.isnan(values)]
    return float(np.percentile(known, q)) if len(known) else _NAN


def faults(report: TrafficReport) -> int:
    """Requests and answers that spoil "each request has exactly one answer, and it is right"."""
    return report.lost + report.duplicates + report.unknown + sum(report.wrong.values())


def sent_at(times: AnswerTimes) -> F64:
    """When the answered requests were sent, float64 [n], monotonic seconds."""
    return times.received_at - times.latency_ms / 1e3


@dataclass(frozen=True, slots=True)
class Load:
    """What became of open-loop traffic; rates in requests a second, times in ms.

    Attributes:
        offered: requests sent.
        goodput: answers with status `ok` that were received before their request's deadline.
        p50, p99: end-to-end latency of those answers; NaN without any.
        batch_rows: mean rows of the batches that they travelled in.
    """

    offered: float
    goodput: float
    p50: float
    p99: float
    batch_rows: float


def under_load(times: AnswerTimes, budget_ms: float, skip_s: float) -> Load:
    """The figures of one load, each answered request having had `budget_ms`.

    Counted is what came from `skip_s` after the first send up to the last one: what the empty system took in at the
    start, and what it still answers when nobody sends any more, would flatter an overloaded one.
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
    """The share of the requests sent in [start, end) that were answered with `ok`; NaN if none was sent.

    Requests without an answer are no part of it: check that there are none.
    """
    sent = sent_at(times)
    chosen = (sent >= start) & (sent < end)
    return float((times.status[chosen] == _OK).mean()) if chosen.any() else _NAN


@dataclass(frozen=True, slots=True)
class Switch:
    """Scoring times around a change of the version, p99 in ms.

    Attributes:
        before: from the start to the new version's folder; loading: from there until the server called it AVAILABLE.
        around: from 5 s before the first answer of the new version to 5 s after the last one of the old version.
        around_loaded: the same without the loading phase, where that lasted into it.
        first_new, last_old: when those answers were received, monotonic seconds; NaN without any.
        answers: how many there are in `before` and `around`.
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
        """How long both versions answered."""
        return max(0.0, self.last_old - self.first_new)


def around_switch(
    times: AnswerTimes, new: int, *, folder_at: float, available_at: float, margin_s: float = 5.0
) -> Switch:
    """Cuts the answers' times at the switch to the version `new`; phases overlap only where the attributes say so."""
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
    """The share of scored candidates that came from the cache; NaN without any."""
    total = sum(report.sources.values())
    return report.sources.get("cache", 0) / total if total else _NAN
