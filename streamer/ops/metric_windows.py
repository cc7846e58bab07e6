"""What metrics have done between two moments: gains, rates and quantiles."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf

from prometheus_client.metrics_core import Metric

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Reading:
    """The samples of one worker at one moment (monotonic seconds): `values[name][labels]`."""

    at: float
    values: Mapping[str, Mapping[Labels, float]]


@dataclass(frozen=True, slots=True)
class Window:
    """Two readings of one worker. Where the first is missing, all is since the worker's start, and there is no rate."""

    before: Reading | None
    now: Reading

    @property
    def seconds(self) -> float:
        """How long it is."""
        return 0.0 if self.before is None else self.now.at - self.before.at

    def labels(self, name: str, label: str) -> list[str]:
        """The values that a label has, sorted."""
        return sorted({dict(labels)[label] for labels in self.now.values.get(name, {})})

    def value(self, name: str, **labels: str) -> float | None:
        """A gauge as it is now."""
        return self.now.values.get(name, {}).get(frozenset(labels.items()))

    def gain(self, name: str, **labels: str) -> float:
        """What a counter has gained; 0 where it does not exist."""
        key = frozenset(labels.items())
        new = self.now.values.get(name, {}).get(key, 0.0)
        old = 0.0 if self.before is None else self.before.values.get(name, {}).get(key, 0.0)
        return new - old if new >= old else new  # Less than before: the worker has been started again.

    def rate(self, name: str, **labels: str) -> float | None:
        """What a counter has gained per second."""
        return self.gain(name, **labels) / self.seconds if self.seconds else None

    def quantile(self, name: str, q: float, **labels: str) -> tuple[float, float] | None:
        """The bounds of the bucket that a histogram's quantile falls into; None where nothing was observed."""
        wanted = labels.items()
        found = (dict(key)["le"] for key in self.now.values.get(f"{name}_bucket", {}) if wanted <= set(key))
        bounds = sorted(found, key=float)
        counts = [self.gain(f"{name}_bucket", le=bound, **labels) for bound in bounds]
        if not counts or not counts[-1]:
            return None
        at = next(i for i, count in enumerate(counts) if count >= q * counts[-1])
        return (float(bounds[at - 1]) if at else -inf, float(bounds[at]))


class Readings:
    """The readings of the last `window_s` seconds, each at least `step_s` after the one before."""

    def __init__(self, window_s: float = 60.0, step_s: float = 0.5) -> None:
        self._window_s = window_s
        self._step_s = step_s
        self._kept: deque[tuple[float, dict[str, Reading]]] = deque()

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, at: float, families: Iterable[Metric]) -> dict[str, Window]:
        """Takes a reading and returns each worker's window that it ends.

        Args:
            at: monotonic seconds.
            families: all metrics. Samples of several workers are told apart by the label `worker`; without it they are
                those of worker "".
        """
        while self._kept and at - self._kept[0][0] > self._window_s:
            self._kept.popleft()
        now = {worker: Reading(at, values) for worker, values in _by_worker(families).items()}
        windows = {worker: Window(self._first(worker, at), reading) for worker, reading in now.items()}
        if not self._kept or at - self._kept[-1][0] >= self._step_s:
            self._kept.append((at, now))
        return windows

    def _first(self, worker: str, now: float) -> Reading | None:
        return next((kept[worker] for at, kept in self._kept if worker in kept and now - at >= self._step_s), None)


def _by_worker(families: Iterable[Metric]) -> dict[str, dict[str, dict[Labels, float]]]:
    found: dict[str, dict[str, dict[Labels, float]]] = {}
    for family in families:
        for sample in family.samples:
            labels = dict(sample.labels)
            of_worker = found.setdefault(labels.pop("worker", ""), {})
            of_worker.setdefault(sample.name, {})[frozenset(labels.items())] = sample.value
    return found
