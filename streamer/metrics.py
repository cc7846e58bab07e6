"""Every metric of the scorer, defined in one place: `streamer_<stage>_…`."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from streamer.types import StageTimes

_SECONDS: Final = (0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0)
_ROWS: Final = (1, 50, 100, 200, 300, 600, 900, 1200, 2400, 4800)
STAGES: Final = ("decode", "encode", "queue", "predict", "total")


class Metrics:
    """Counters, gauges and histograms of one worker, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # CPU, memory and descriptors, under their usual names
        self.records = self._counter("source_records", "records received")
        self.fetch_failures = self._counter("source_fetch_failures", "fetches that the brokers refused")
        self.in_flight = self._gauge("source_in_flight_records", "records received and not yet answered")
        self.unacknowledged = self._gauge("source_unacknowledged_records", "unacknowledged records")
        self.unacknowledged_bytes = self._gauge("source_unacknowledged_bytes", "bytes of unacknowledged records")
        self.paused = self._gauge("source_paused_partitions", "partitions paused at their share of the bound")
        self.lag = Gauge("streamer_source_lag_records", "records behind the end", ["partition"], registry=self.registry)
        self.lag_seconds = Gauge(
            "streamer_source_lag_seconds",
            "age of the record that was read last; 0 where that was the end",
            ["partition"],
            registry=self.registry,
        )
        self._answers = Counter("streamer_sink_answers", "answers by status", ["status"], registry=self.registry)
        self._dead = Counter("streamer_sink_dead_letters", "dead letters by stage", ["stage"], registry=self.registry)
        self.send_failures = self._counter(
            "sink_send_failures", "answers or dead letters that the broker refused for now"
        )
        self.candidates = self._counter("codec_candidates", "candidates asked for")
        self.cache_hits = self._counter("cache_hits", "candidates whose score was known")
        self.cache_misses = self._counter("cache_misses", "candidates whose score was not known")
        self.cache_single_flight = self._counter(
            "cache_single_flight", "candidates that another request had asked for already"
        )
        self.cache_bypassed = self._counter("cache_bypassed", "candidates not looked up, because too few were known")
        self._batches = Counter(
            "streamer_batching_batches", "batches by the reason they left for", ["reason"], registry=self.registry
        )
        self._rows = self._histogram("batching_rows", "rows of a batch", _ROWS)
        self.queued_rows = self._gauge("batching_queued_rows", "rows that wait to leave in a batch")
        self.concurrency_limit = self._gauge("batching_concurrency_limit", "calls that may be in flight at once")
        self.shed_rows = self._counter("batching_shed_rows", "rows given up because no batch could answer them in time")
        self._rpc = self._histogram("predictor_seconds", "time of a call", _SECONDS)
        self._rpc_errors = Counter(
            "streamer_predictor_errors", "failed calls by code", ["code"], registry=self.registry
        )
        self.predict_retries = self._counter("predictor_retries", "calls tried again on a server")
        self._circuits = Gauge(
            "streamer_predictor_circuit_open", "1 while a server is left alone", ["address"], registry=self.registry
        )
        self.model_version = Gauge(
            "streamer_rollout_serving_version", "the version that serves", ["model"], registry=self.registry
        )
        self.incoming_share = Gauge(
            "streamer_rollout_incoming_share",
            "share of the users who have the newer version",
            ["model"],
            registry=self.registry,
        )
        self.version_switches = Counter(
            "streamer_rollout_version_changes", "changes of the version that serves", ["model"], registry=self.registry
        )
        self.rollbacks = Counter(
            "streamer_rollout_rollbacks", "returns to the version before", ["model"], registry=self.registry
        )
        self.shadow = Counter(
            "streamer_shadow_requests",
            "requests offered to a version in the shadow",
            ["outcome"],
            registry=self.registry,
        )
        self.feature_log = Counter(
            "streamer_feature_log_requests",
            "requests of the feature log's sample",
            ["outcome"],
            registry=self.registry,
        )
        self.loop_delay = self._histogram("loop_delay_seconds", "how late the event loop runs what is due", _SECONDS)
        self.commits = self._counter("offsets_commits", "commits")
        self.commit_failures = self._counter("offsets_commit_failures", "commits that failed and will be tried again")
        self.transactions = Counter(
            "streamer_delivery_transactions", "transactions by how they ended", ["outcome"], registry=self.registry
        )
        self.isolated_partitions = self._gauge("delivery_isolated_partitions", "isolated partitions")
        stage = Histogram(
            "streamer_stage_seconds", "time by stage", ["stage"], buckets=_SECONDS, registry=self.registry
        )
        self._stages = [stage.labels(name) for name in STAGES]
        slack = Histogram(
            "streamer_stage_slack_seconds",
            "what was left of the budget after a stage",
            ["stage"],
            buckets=(0.0, *_SECONDS),
            registry=self.registry,
        )
        self._slack = [slack.labels(name) for name in STAGES]
        self.late = self._counter("sink_late_answers", "answers handed over after their deadline")

    def answered(self, status: str, times: StageTimes, slack: float) -> None:
        """One answer was handed to the producer, `slack` seconds before its deadline."""
        self._answers.labels(status).inc()
        *in_order, total = (ms / 1e3 for ms in (times.decode, times.encode, times.queue, times.predict, times.total))
        left = slack + total
        for stage, stage_slack, seconds in zip(self._stages, self._slack, in_order, strict=False):
            left -= seconds
            stage.observe(seconds)
            stage_slack.observe(left)
        self._stages[-1].observe(total)
        self._slack[-1].observe(slack)
        if slack < 0:
            self.late.inc()

    def dead_lettered(self, stage: str) -> None:
        """One record went to the dead-letter topic."""
        self._dead.labels(stage).inc()

    def batch_left(self, reason: str, rows: int) -> None:
        """One batch left."""
        self._batches.labels(reason).inc()
        self._rows.observe(rows)

    def predicted(self, seconds: float) -> None:
        """One call came back with scores."""
        self._rpc.observe(seconds)

    def circuit(self, address: str, *, is_open: bool) -> None:
        """Whether a server is left alone after failing."""
        self._circuits.labels(address).set(is_open)

    def predict_failed(self, code: str) -> None:
        """One call came back without."""
        self._rpc_errors.labels(code).inc()

    def _counter(self, name: str, meaning: str) -> Counter:
        return Counter(f"streamer_{name}", meaning, registry=self.registry)

    def _gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(f"streamer_{name}", meaning, registry=self.registry)

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"streamer_{name}", meaning, buckets=buckets, registry=self.registry)
