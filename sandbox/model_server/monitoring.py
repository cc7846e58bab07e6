"""The server's metrics under TensorFlow Serving's names, as a page for Prometheus.

The names that TensorFlow's C++ runtime counts itself (`:tensorflow:core:*`, `:xla:*`, …) are missing: Python cannot
read them.
"""

import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate

from sandbox.model_server.status import StatusError

_MOST_SERIES = 1000


@dataclass(frozen=True, slots=True)
class Metric:
    """A name with its kind (counter, gauge or histogram) and labels.

    A histogram has the upper bounds of its buckets.
    """

    name: str
    kind: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


# Microseconds, to about 20 minutes.
_LATENCIES = tuple(10 * 1.8**power for power in range(33))
_SERVING = ":tensorflow:serving:"
_LOADING = ":tensorflow:cc:saved_model:"

REQUEST_COUNT = Metric(f"{_SERVING}request_count", "counter", ("model_name", "status"))
REQUEST_LATENCY = Metric(f"{_SERVING}request_latency", "histogram", ("model_name", "API", "entrypoint"), _LATENCIES)
RUNTIME_LATENCY = Metric(f"{_SERVING}runtime_latency", "histogram", ("model_name", "API", "runtime"), _LATENCIES)
EXAMPLE_COUNTS = Metric(
    f"{_SERVING}request_example_counts", "histogram", ("model",), tuple(2.0**power for power in range(15))
)
EXAMPLE_COUNT_TOTAL = Metric(f"{_SERVING}request_example_count_total", "counter", ("model",))
WARMUP_LATENCY = Metric(f"{_SERVING}model_warmup_latency", "histogram", ("model_path", "status"), _LATENCIES)
LOAD_ATTEMPT_COUNT = Metric(f"{_LOADING}load_attempt_count", "counter", ("model_path", "status"))
LOAD_LATENCY = Metric(f"{_LOADING}load_latency", "counter", ("model_path",))
LOAD_LATENCY_BY_STAGE = Metric(f"{_LOADING}load_latency_by_stage", "histogram", ("model_path", "stage"), _LATENCIES)
QUEUING_LATENCY = Metric(
    f"{_SERVING}batching_session:queuing_latency",
    "histogram",
    ("thread_pool_name",),
    tuple(100 * 1.2**power for power in range(52)),
)
WRAPPED_RUN_COUNT = Metric(f"{_SERVING}batching_session:wrapped_run_count", "counter")
UNMEASURED = (
    Metric(f"{_SERVING}batching:mixed_priority_batching_policy", "gauge"),
    Metric(f"{_SERVING}batching:padding_size_v2", "histogram"),
    Metric(f"{_SERVING}batching:processed_batch_size_v2", "counter"),
    Metric(f"{_SERVING}mlmd_map", "gauge"),
    Metric(f"{_SERVING}request_log_count", "counter"),
)
"""Metrics that have no values here."""
_ALL = (
    REQUEST_COUNT,
    REQUEST_LATENCY,
    RUNTIME_LATENCY,
    EXAMPLE_COUNTS,
    EXAMPLE_COUNT_TOTAL,
    WARMUP_LATENCY,
    LOAD_ATTEMPT_COUNT,
    LOAD_LATENCY,
    LOAD_LATENCY_BY_STAGE,
    QUEUING_LATENCY,
    WRAPPED_RUN_COUNT,
    *UNMEASURED,
)


class ServerMetrics:
    """Values of the metrics, for all threads.

    A metric has at most 1,000 series; values of further ones are lost.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # A counter has one number; a histogram the count of each bucket, then the sum.
        self._series: dict[Metric, dict[tuple[str, ...], list[float]]] = {metric: {} for metric in _ALL}

    def count(self, metric: Metric, *labels: str, by: float = 1) -> None:
        """Adds to a counter; `labels` has one value for each label of the metric."""
        with self._lock:
            self._values(metric, labels, 1)[0] += by

    def observe(self, metric: Metric, *labels: str, value: float) -> None:
        """Adds a value to a histogram."""
        with self._lock:
            values = self._values(metric, labels, len(metric.bounds) + 2)
            values[bisect_left(metric.bounds, value)] += 1
            values[-1] += value

    @contextmanager
    def request(self, model: str, api: str, entrypoint: str) -> Iterator[None]:
        """Counts the request of the block by its status, and measures it if it succeeds."""
        started = time.perf_counter()
        status = "UNKNOWN"
        try:
            yield
            status = "OK"
            self.observe(REQUEST_LATENCY, model, api, entrypoint, value=_microseconds_since(started))
        except StatusError as error:
            status = error.code.name
            raise
        finally:
            self.count(REQUEST_COUNT, model, status)

    @contextmanager
    def runtime(self, model: str, api: str) -> Iterator[None]:
        """Measures the run of a model in the block, if it succeeds."""
        started = time.perf_counter()
        yield
        self.observe(RUNTIME_LATENCY, model, api, "TF1", value=_microseconds_since(started))

    def examples(self, model: str, number: int) -> None:
        """Counts the examples of a request."""
        self.observe(EXAMPLE_COUNTS, model, value=number)
        self.count(EXAMPLE_COUNT_TOTAL, model, by=number)

    @contextmanager
    def load(self, path: str) -> Iterator[None]:
        """Counts and measures the load of the version at `path` in the block."""
        started = time.perf_counter()
        outcome = "fail"
        try:
            yield
            outcome = "success"
        finally:
            self.count(LOAD_ATTEMPT_COUNT, path, outcome)
            self.count(LOAD_LATENCY, path, by=_microseconds_since(started))

    @contextmanager
    def load_stage(self, path: str, stage: str) -> Iterator[None]:
        """Measures a stage of a load."""
        started = time.perf_counter()
        yield
        self.observe(LOAD_LATENCY_BY_STAGE, path, stage, value=_microseconds_since(started))

    def page(self) -> str:
        """All metrics in Prometheus' text form; one without values has only its type."""
        lines = []
        with self._lock:
            for metric, series in sorted(self._series.items(), key=lambda item: item[0].name):
                lines.append(f"# TYPE {metric.name} {metric.kind}")
                for labels, values in series.items():
                    pairs = ",".join(
                        f'{name}="{_escaped(text)}"' for name, text in zip(metric.labels, labels, strict=True)
                    )
                    lines.extend(_lines(metric, pairs, values))
        return "\n".join(lines) + "\n"

    def _values(self, metric: Metric, labels: tuple[str, ...], size: int) -> list[float]:
        series = self._series[metric]
        if labels not in series and len(series) >= _MOST_SERIES:
            return [0] * size
        return series.setdefault(labels, [0] * size)


def _lines(metric: Metric, pairs: str, values: Sequence[float]) -> Iterator[str]:
    if metric.kind != "histogram":
        yield f"{metric.name}{{{pairs}}} {values[0]:.0f}"
        return
    bounds = [*(f"{bound:.6g}" for bound in metric.bounds), "+Inf"]
    counts = list(accumulate(values[:-1]))
    for bound, count in zip(bounds, counts, strict=True):
        yield f'{metric.name}_bucket{{{pairs},le="{bound}"}} {count:.0f}'
    yield f"{metric.name}_sum{{{pairs}}} {values[-1]:.0f}"
    yield f"{metric.name}_count{{{pairs}}} {counts[-1]:.0f}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _microseconds_since(started: float) -> float:
    return (time.perf_counter() - started) * 1e6
