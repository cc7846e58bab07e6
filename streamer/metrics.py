"""All metrics of the scorer: `streamer_<stage>_…`."""

from collections import Counter as CountedFeatures
from collections.abc import Callable, Iterable, Iterator
from typing import Final, get_args

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from streamer.feature_values import FeatureValues
from streamer.types import DeadLetterStage, StageTimes, Status

_SECONDS: Final = (0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0)
_SLICES: Final = (0.0001, 0.0002, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.01, 0.02)
_ROWS: Final = (1, 50, 100, 200, 300, 600, 900, 1200, 2400, 4800)
READY: Final = ("streamer_ready", "1 while /readyz answers 200")
"""Name and meaning of the gauge that the owner of the operations port sets."""
_BULK: Final = 256
"""Answers whose times are added to the histograms in one step."""
STAGES: Final = ("decode", "encode", "queue", "predict", "total")

LOG_LINES_DROPPED = Counter(
    "streamer_log_lines_dropped", "log lines dropped because standard error accepts none", registry=None
)
"""Of this process; in the registry of its worker or supervisor."""


class SupervisorMetrics:
    """Counters, gauges and histograms of a supervisor, in their own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(LOG_LINES_DROPPED)
        self.standby = Gauge(
            "streamer_supervisor_standby_workers", "processes that can take over", registry=self.registry
        )
        self.missing = Gauge(
            "streamer_supervisor_missing_workers",
            "processes that should be active or standby and are not",
            registry=self.registry,
        )
        self.unread = Gauge(
            "streamer_supervisor_unread_partitions", "partitions that no worker reads", registry=self.registry
        )
        self.ends = Counter(
            "streamer_supervisor_worker_ends", "ends of workers that were not told to end", registry=self.registry
        )
        self.takeover = Histogram(
            "streamer_supervisor_takeover_seconds",
            "time in which partitions had no worker",
            buckets=(0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0),
            registry=self.registry,
        )


class _StageHistograms:
    """A histogram for each stage, of values that are counted in bulk."""

    def __init__(self, name: str, meaning: str, bounds: tuple[float, ...], flush: Callable[[], None]) -> None:
        self._name, self._meaning, self._flush = name, meaning, flush
        self._bounds = np.array(bounds)
        self._les = [*map(floatToGoString, bounds), "+Inf"]
        self._counts = np.zeros((len(STAGES), len(self._les)), dtype=np.int64)
        self._sums = np.zeros(len(STAGES))

    def add(self, values: npt.NDArray[np.float64]) -> None:
        """Counts values, float64 [n, stages]."""
        buckets = np.searchsorted(self._bounds, values) + np.arange(len(STAGES)) * len(self._les)
        self._counts += np.bincount(buckets.ravel(), minlength=self._counts.size).reshape(self._counts.shape)
        self._sums += values.sum(axis=0)

    def collect(self) -> Iterator[Metric]:
        """The samples, as the registry asks for them."""
        self._flush()
        family = HistogramMetricFamily(self._name, self._meaning, labels=["stage"])
        for stage, counts, total in zip(STAGES, self._counts.cumsum(axis=1).tolist(), self._sums.tolist(), strict=True):
            family.add_metric([stage], list(zip(self._les, counts, strict=True)), total)
        yield family


class TableMetrics:
    """Counters, gauges and histograms of the tables of ads, made by the methods of `Metrics`."""

    def __init__(
        self,
        counter: Callable[..., Counter],
        gauge: Callable[..., Gauge],
        histogram: Callable[..., Histogram],
    ) -> None:
        self.ads = gauge("table_ads", "ads in the table", "spec")
        self.bytes = gauge("table_bytes", "memory of the table, for all processes of the machine", "spec")
        self.loaded = gauge(
            "table_loaded_share", "share of the first load that is read; 1: the table is loaded", "spec"
        )
        self.age = gauge("table_age_seconds", "time since the table was last known to be current or changed", "spec")
        self.writes = gauge("table_writer", "1 while this process writes the table", "spec")
        self.lag = gauge("table_lag_records", "records that the writer has not read yet", "spec")
        self.lag_seconds = gauge("table_lag_seconds", "time since the writer has read the topic to its end", "spec")
        self.changes = counter(
            "table_changes", "records of ads by outcome", "outcome", values=("stored", "deleted", "rejected")
        )
        self.reloads = counter(
            "table_reloads", "tables loaded again", "reason", values=("recreated", "deleted", "truncated")
        )
        self.slices = histogram("table_slice_seconds", "CPU time of a slice of changes", _SLICES)
        self.fetch_failures = counter("table_fetch_failures", "failed fetches of ads; retried")
        self.unreadable = gauge("table_unreadable_partitions", "1: cannot be read now", "partition")

    def closed(self, spec: str) -> None:
        """This process uses the table of this spec no more."""
        for gauge in (self.ads, self.bytes, self.loaded, self.age, self.writes, self.lag, self.lag_seconds):
            gauge.remove(spec)


class Metrics:
    """Counters, gauges and histograms of one worker, in their own registry."""

    def __init__(self) -> None:  # noqa: PLR0915  a list
        self.registry = CollectorRegistry()
        self.registry.register(LOG_LINES_DROPPED)
        ProcessCollector(registry=self.registry)  # CPU, memory and descriptors, under their standard names
        self.records = self._counter("source_records", "records received")
        self.fetch_failures = self._counter("source_fetch_failures", "failed fetches; retried")
        self.in_flight = self._gauge("source_in_flight_records", "records in flight: received, not answered yet")
        self.acknowledged = self._counter("source_acknowledged_records", "records with an acknowledged answer")
        self.unacknowledged = self._gauge("source_unacknowledged_records", "received, answer not acknowledged yet")
        self.unacknowledged_bytes = self._gauge("source_unacknowledged_bytes", "bytes of unacknowledged records")
        self.paused = self._gauge("source_paused_partitions", "partitions paused at their share of the bound")
        self.unreadable = self._gauge("source_unreadable_partitions", "1: cannot be opened or read now", "partition")
        self.skipped = self._counter(
            "source_skipped_records", "records without an answer", "reason", values=("backlog", "deleted")
        )
        resets = ("recreated", "truncated")
        self.resets = self._counter("source_position_resets", "partitions read again", "reason", values=resets)
        self.backlog = self._gauge("source_backlog_records", "older records that the second reader has still to answer")
        self.lag = self._gauge("source_lag_records", "records that are unread or unacknowledged", "partition")
        self.lag_seconds = self._gauge("source_lag_seconds", "age of the last record read; 0 at the end", "partition")
        answers = self._counter("sink_answers", "answers by status", "status")
        self._answers: dict[str, Counter] = {status: answers.labels(status) for status in get_args(Status)}
        self._dead = self._counter(
            "sink_dead_letters", "dead letters by stage", "stage", values=get_args(DeadLetterStage)
        )
        self.send_failures = self._counter("sink_send_failures", "failed sends of answers or dead letters; retried")
        self.candidates = self._counter("codec_candidates", "candidates of the requests")
        self.consent_denied = self._counter("features_consent_denied_requests", "requests without consent of the user")
        self.unknown_ads = self._counter("unknown_ads", "candidates whose ad the table of ads does not contain")
        self._out_of_range = self._counter(
            "features_out_of_range", "numbers that do not fit and count as missing", "feature"
        )
        self.feature_values = FeatureValues()
        self.registry.register(self.feature_values)
        self.cache_hits = self._counter("cache_hits", "candidates with a cached score")
        self.cache_misses = self._counter("cache_misses", "candidates without a cached score")
        self.cache_single_flight = self._counter("cache_single_flight", "candidates that await another request's call")
        self.cache_bypassed = self._counter("cache_bypassed", "candidates not looked up, because few lookups hit")
        self._batches = self._counter("batching_batches", "batches by the reason for their departure", "reason")
        self._rows = self._histogram("batching_rows", "rows per batch", _ROWS)
        self.queued_rows = self._gauge("batching_queued_rows", "rows in the batch queue")
        self.concurrency_limit = self._gauge("batching_concurrency_limit", "limit of concurrent calls")
        self.shed_rows = self._counter("batching_shed_rows", "rows shed because no call could score them in time")
        self._rpc = self._histogram("predictor_seconds", "duration of a successful call", _SECONDS)
        self._rpc_errors = self._counter("predictor_errors", "failed calls", "model", "code")
        self.invalid_scores = self._counter("predictor_invalid_scores", "scores not in [0, 1]", "model", "reason")
        self.rejections = self._counter("predictor_rejections", "calls that a full server rejected", "address")
        self.predict_retries = self._counter("predictor_retries", "retried calls")
        self._circuits = self._gauge("predictor_circuit_open", "1 while a circuit is open", "address", "model")
        self.serving_version = self._gauge("rollout_serving_version", "the serving version", "model")
        self.incoming_share = self._gauge("rollout_incoming_share", "share of users of the incoming version", "model")
        self.version_changes = self._counter("rollout_version_changes", "changes of the serving version", "model")
        self.rollbacks = self._counter("rollout_rollbacks", "rollbacks to the previous version", "model")
        self.bad_version = self._gauge(
            "rollout_bad_version", "1 while a version that the servers have cannot be prepared", "model", "version"
        )
        self.replaced_versions = self._counter(
            "rollout_replaced_versions", "versions found to be another object under the same number", "model"
        )
        self.shadow = self._counter("shadow_requests", "requests offered to the shadow version", "outcome")
        self.feature_log = self._counter("feature_log_requests", "requests sampled for the feature log", "outcome")
        self.spans = self._counter(
            "tracing_spans", "spans by outcome", "outcome", values=("exported", "failed", "dropped")
        )
        found = ("compatible", "incompatible", "unknown", "failed")
        self.schema_lookups = self._counter("registry_lookups", "lookups of schemas", "outcome", values=found)
        self.schema_rejections = self._counter("registry_rejected_records", "records of an incompatible schema")
        self.tables = TableMetrics(self._counter, self._gauge, self._histogram)
        self._http = self._counter(
            "http_requests", "requests over HTTP by status code", "code", values=("200", "400", "503", "504")
        )
        self._http_seconds = self._histogram("http_seconds", "time from a request's head to its reply", _SECONDS)
        self.http_in_flight = self._gauge("http_in_flight_requests", "requests over HTTP that are read or scored")
        self.http_connections = self._gauge("http_open_connections", "open connections over HTTP, idle ones included")
        self.loop_delay = self._histogram("loop_delay_seconds", "delay of the event loop", _SECONDS)
        self.commits = self._counter("offsets_commits", "commits")
        self.commit_failures = self._counter("offsets_commit_failures", "failed commits; the next one includes them")
        self.transactions = self._counter("delivery_transactions", "transactions by outcome", "outcome")
        self.isolated_partitions = self._gauge("delivery_isolated_partitions", "isolated partitions")
        # The times of answers that the histograms do not contain yet: decode, encode, queue, predict, total, slack.
        self._times: list[tuple[float, ...]] = []
        slack_bounds = (0.0, *_SECONDS)
        self._stages = _StageHistograms("streamer_stage_seconds", "time by stage", _SECONDS, self._add_times)
        self._slack = _StageHistograms(
            "streamer_stage_slack_seconds", "budget left after a stage", slack_bounds, self._add_times
        )
        for histograms in (self._stages, self._slack):
            self.registry.register(histograms)
        self.late = self._counter("sink_late_answers", "answers sent after their deadline")

    def answered(self, status: str, times: StageTimes, slack: float) -> None:
        """Counts an answer that was handed to the producer `slack` seconds before its deadline."""
        self._answers[status].inc()
        self._times.append((times.decode, times.encode, times.queue, times.predict, times.total, slack))
        if slack < 0:
            self.late.inc()
        if len(self._times) == _BULK:
            self._add_times()

    def _add_times(self) -> None:
        """Adds the collected times to the histograms."""
        if not self._times:
            return
        found = np.array(self._times)
        self._times.clear()
        seconds, slack = found[:, :-1] / 1e3, found[:, -1:]
        in_order, total = seconds[:, :-1], seconds[:, -1:]
        self._stages.add(seconds)
        self._slack.add(np.hstack([slack + total - in_order.cumsum(axis=1), slack]))

    def http_answered(self, code: int, seconds: float) -> None:
        """Counts a request over HTTP by the status code of its reply."""
        self._http.labels(str(code)).inc()
        self._http_seconds.observe(seconds)

    def dead_lettered(self, stage: str) -> None:
        """Counts a record that went to the dead-letter topic."""
        self._dead.labels(stage).inc()

    def count_out_of_range(self, numbers: CountedFeatures[str]) -> None:
        """Counts numbers by their feature, and clears `numbers`."""
        for feature, count in numbers.items():
            self._out_of_range.labels(feature).inc(count)
        numbers.clear()

    def batch_left(self, reason: str, rows: int) -> None:
        """Counts a batch that left the queue, with its rows."""
        self._batches.labels(reason).inc()
        self._rows.observe(rows)

    def predicted(self, seconds: float) -> None:
        """Records the duration of a successful call."""
        self._rpc.observe(seconds)

    def set_circuit(self, address: str, model: str, *, is_open: bool) -> None:
        """Sets whether the circuit of a model on a server is open."""
        self._circuits.labels(address, model).set(is_open)

    def remove_circuit(self, address: str, model: str) -> None:
        """Removes the circuit of a server that has been removed."""
        self._circuits.remove(address, model)

    def predict_failed(self, model: str, code: str) -> None:
        """Counts a failed call by its model and its code."""
        self._rpc_errors.labels(model, code).inc()

    def _counter(self, name: str, meaning: str, *labels: str, values: Iterable[str] = ()) -> Counter:
        """A counter, 0 for each of `values` of its label: Prometheus sees no increase in a first 1."""
        counter = Counter(f"streamer_{name}", meaning, labels, registry=self.registry)
        for value in values:
            counter.labels(value)
        return counter

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(f"streamer_{name}", meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"streamer_{name}", meaning, labels, buckets=buckets, registry=self.registry)
