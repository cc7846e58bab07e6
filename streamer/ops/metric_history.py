"""Metrics over time: increases, rates and quantiles of a minute, points of ten minutes."""

import sys
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import inf

from prometheus_client.metrics_core import Metric

Labels = frozenset[tuple[str, str]]
Point = tuple[float | None, ...]
"""The values of one moment; None without a measurement."""
STEP_S = 10.0
"""Seconds between two samples of the history."""
_WINDOW_S = 60.0
_LONG_S = 600.0
# They would take most of a sample's time. Without a former value their increase is that since the start.
_NOT_KEPT = frozenset({"streamer_features_sampled", "streamer_features_present"})
# Gauges of which the sum over workers has no meaning.
_NOT_SUMMED = {
    "streamer_source_lag_seconds": max,
    "streamer_rollout_serving_version": max,
    "streamer_rollout_incoming_share": max,
    "streamer_rollout_bad_version": max,
    "streamer_predictor_circuit_open": max,
    "streamer_table_ads": max,
    "streamer_table_bytes": max,
    "streamer_table_age_seconds": max,
    "streamer_table_lag_seconds": max,
    "streamer_table_loaded_share": min,
    "process_start_time_seconds": min,
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The samples of one worker at one moment (monotonic seconds): `values[name][labels]`."""

    at: float
    values: Mapping[str, Mapping[Labels, float]]


@dataclass(frozen=True, slots=True)
class Window:
    """Two snapshots of one worker.

    Without a first one, increases count from the worker's start and rates are None.
    """

    before: Snapshot | None
    now: Snapshot

    @property
    def seconds(self) -> float:
        """Seconds between the two snapshots; 0 without a first one."""
        return 0.0 if self.before is None else self.now.at - self.before.at

    def label_values(self, name: str, label: str) -> list[str]:
        """The values of a label, sorted."""
        return sorted({dict(labels)[label] for labels in self.now.values.get(name, {})})

    def value(self, name: str, **labels: str) -> float | None:
        """The present value of a gauge; None if it does not exist."""
        return self.now.values.get(name, {}).get(frozenset(labels.items()))

    def values(self, name: str, label: str) -> dict[str, float]:
        """The present value of a gauge for each value of its label."""
        return {dict(labels)[label]: value for labels, value in self.now.values.get(name, {}).items()}

    def labelled(self, name: str) -> list[tuple[dict[str, str], float]]:
        """The present values of a gauge with their labels."""
        return [(dict(labels), value) for labels, value in self.now.values.get(name, {}).items()]

    def increase(self, name: str, **labels: str) -> float:
        """The increase of a counter; 0 if it does not exist."""
        return self._increase(name, frozenset(labels.items()))

    def _increase(self, name: str, key: Labels) -> float:
        new = self.now.values.get(name, {}).get(key, 0.0)
        old = 0.0 if self.before is None else self.before.values.get(name, {}).get(key, 0.0)
        return new - old if new >= old else new  # A smaller value: the worker has restarted.

    def increases(self, name: str, label: str) -> dict[str, float]:
        """The increase of a counter for each value of its label, of all its other labels."""
        found: dict[str, float] = {}
        for key in self.now.values.get(name, {}):
            value = dict(key)[label]
            found[value] = found.get(value, 0.0) + self._increase(name, key)
        return dict(sorted(found.items()))

    def total(self, name: str) -> float:
        """The increase of a counter over all its labels."""
        return sum(self._increase(name, key) for key in self.now.values.get(name, {}))

    def rate(self, name: str, **labels: str) -> float | None:
        """The increase of a counter per second."""
        return self.increase(name, **labels) / self.seconds if self.seconds else None

    def quantile(self, name: str, q: float, **labels: str) -> float | None:
        """A quantile, linear within its bucket as in Prometheus; None without observations.

        It is infinite, or minus infinity, beyond the bounds of the buckets.
        """
        wanted = labels.items()
        found = (dict(key)["le"] for key in self.now.values.get(f"{name}_bucket", {}) if wanted <= set(key))
        bounds = sorted(found, key=float)
        counts = [self.increase(f"{name}_bucket", le=bound, **labels) for bound in bounds]
        if not counts or not counts[-1]:
            return None
        at = next(i for i, count in enumerate(counts) if count >= q * counts[-1])
        upper = float(bounds[at])
        lower, below = (float(bounds[at - 1]), counts[at - 1]) if at else (0.0 if upper > 0 else -inf, 0.0)
        if inf in {upper, -lower}:
            return upper if upper == inf else lower
        return lower + (upper - lower) * (q * counts[-1] - below) / (counts[at] - below)


def merged(windows: Iterable[Window]) -> Window | None:
    """One window of all workers: the sum of their increases, which no restart reduces."""
    found = list(windows)
    if len(found) <= 1:
        return found[0] if found else None
    now: dict[str, dict[Labels, float]] = {}
    before: dict[str, dict[Labels, float]] = {}
    for window in found:
        for name, samples in window.now.values.items():
            combine = _NOT_SUMMED.get(name)
            into, old = now.setdefault(name, {}), before.setdefault(name, {})
            for key, value in samples.items():
                into[key] = value + into.get(key, 0.0) if combine is None else combine(value, into.get(key, value))
                old[key] = old.get(key, 0.0) + value - window._increase(name, key)  # noqa: SLF001
    first = min((window.before.at for window in found if window.before is not None), default=None)
    at = max(window.now.at for window in found)
    return Window(None if first is None else Snapshot(first, before), Snapshot(at, now))


class MetricHistory:
    """Snapshots of the last minute, and points of the last ten.

    Invariants: (1) it keeps at most 7 snapshots, `STEP_S` apart; (2) at most 61 points.
    """

    def __init__(self) -> None:
        self._kept: deque[dict[str, Snapshot]] = deque(maxlen=int(_WINDOW_S / STEP_S) + 1)
        self.points: deque[tuple[float, Point]] = deque(maxlen=int(_LONG_S / STEP_S) + 1)

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, at: float, families: Iterable[Metric]) -> dict[str, Window]:
        """Keeps a snapshot, and returns for each worker the window since the one before.

        It has no counts of the features' values: of thousands of features they would block the event loop.
        A worker that did not answer then has no window: its increase since its start would be a peak.

        Args:
            at: monotonic seconds.
            families: all metrics. The label `worker` says which worker a sample belongs to; samples without it belong
                to worker "".
        """
        now = _by_worker(at, (family for family in families if family.name not in _NOT_KEPT))
        last = self._kept[-1] if self._kept else {}
        back = {worker for kept in self._kept for worker in kept} - last.keys()
        self._kept.append(now)
        return {worker: Window(last.get(worker), snapshot) for worker, snapshot in now.items() if worker not in back}

    def window(self, at: float, families: Iterable[Metric]) -> dict[str, Window]:
        """For each worker the last minute, or the time since its first snapshot. Keeps nothing."""
        return {
            worker: Window(self._first(worker, at), snapshot) for worker, snapshot in _by_worker(at, families).items()
        }

    def _first(self, worker: str, now: float) -> Snapshot | None:
        recent = (kept[worker] for kept in self._kept if worker in kept)
        return next((found for found in recent if 1.0 <= now - found.at <= _WINDOW_S + STEP_S), None)


@lru_cache(maxsize=16384)
def _labels(items: tuple[tuple[str, str], ...]) -> Labels:
    """All snapshots share the labels."""
    return frozenset(items)


def _by_worker(at: float, families: Iterable[Metric]) -> dict[str, Snapshot]:
    found: dict[str, dict[str, dict[Labels, float]]] = {}
    for family in families:
        for sample in family.samples:
            if sample.name.endswith("_created"):
                continue
            labels = dict(sample.labels)
            of_worker = found.setdefault(labels.pop("worker", ""), {})
            key = _labels(tuple(sorted(labels.items())))
            of_worker.setdefault(sys.intern(sample.name), {})[key] = sample.value
    return {worker: Snapshot(at, values) for worker, values in found.items()}
