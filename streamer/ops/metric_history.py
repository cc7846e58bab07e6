"""Metrics over the last minute: increases, rates and quantiles, computed from snapshots."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf

from prometheus_client.metrics_core import Metric

Labels = frozenset[tuple[str, str]]


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

    def increase(self, name: str, **labels: str) -> float:
        """The increase of a counter; 0 if it does not exist."""
        key = frozenset(labels.items())
        new = self.now.values.get(name, {}).get(key, 0.0)
        old = 0.0 if self.before is None else self.before.values.get(name, {}).get(key, 0.0)
        return new - old if new >= old else new  # A smaller value: the worker has restarted.

    def increases(self, name: str, label: str) -> dict[str, float]:
        """The increase of a counter for each value of its label."""
        return {value: self.increase(name, **{label: value}) for value in self.label_values(name, label)}

    def rate(self, name: str, **labels: str) -> float | None:
        """The increase of a counter per second."""
        return self.increase(name, **labels) / self.seconds if self.seconds else None

    def quantile(self, name: str, q: float, **labels: str) -> tuple[float, float] | None:
        """The bounds of the histogram bucket that contains the quantile; None without observations."""
        wanted = labels.items()
        found = (dict(key)["le"] for key in self.now.values.get(f"{name}_bucket", {}) if wanted <= set(key))
        bounds = sorted(found, key=float)
        counts = [self.increase(f"{name}_bucket", le=bound, **labels) for bound in bounds]
        if not counts or not counts[-1]:
            return None
        at = next(i for i, count in enumerate(counts) if count >= q * counts[-1])
        return (float(bounds[at - 1]) if at else -inf, float(bounds[at]))


class MetricHistory:
    """The snapshots of the last `window_s` seconds, at least `step_s` seconds apart."""

    def __init__(self, window_s: float = 60.0, step_s: float = 0.5) -> None:
        self._window_s = window_s
        self._step_s = step_s
        self._kept: deque[tuple[float, dict[str, Snapshot]]] = deque()

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, at: float, families: Iterable[Metric]) -> dict[str, Window]:
        """Adds a snapshot and returns for each worker the window that ends with it.

        Args:
            at: monotonic seconds.
            families: all metrics. The label `worker` says which worker a sample belongs to; samples without it belong
                to worker "".
        """
        while self._kept and at - self._kept[0][0] > self._window_s:
            self._kept.popleft()
        now = {worker: Snapshot(at, values) for worker, values in _by_worker(families).items()}
        windows = {worker: Window(self._first(worker, at), snapshot) for worker, snapshot in now.items()}
        if not self._kept or at - self._kept[-1][0] >= self._step_s:
            self._kept.append((at, now))
        return windows

    def _first(self, worker: str, now: float) -> Snapshot | None:
        return next((kept[worker] for at, kept in self._kept if worker in kept and now - at >= self._step_s), None)


def _by_worker(families: Iterable[Metric]) -> dict[str, dict[str, dict[Labels, float]]]:
    found: dict[str, dict[str, dict[Labels, float]]] = {}
    for family in families:
        for sample in family.samples:
            labels = dict(sample.labels)
            of_worker = found.setdefault(labels.pop("worker", ""), {})
            of_worker.setdefault(sample.name, {})[frozenset(labels.items())] = sample.value
    return found
