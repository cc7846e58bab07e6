"""The sections of the settings: one small frozen value for each stage."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(_Section):
    """Where the brokers are and who we are there."""

    bootstrap_servers: str = Field(default="localhost:9092", description="brokers to begin with, `host:port`, …")
    group_id: str = Field(default="ctr-streamer", description="consumer group; its workers share the partitions")
    client_id: str = Field(default="ctr-streamer", description="name in the brokers' logs and metrics")
    request_timeout_ms: int = Field(default=10_000, gt=0, description="for one request to a broker")
    session_timeout_ms: int = Field(
        default=10_000,
        ge=1000,
        description="a silent worker loses its partitions after it; a heartbeat goes every third",
    )

    group_instance_id: str | None = Field(
        default=None, description="static membership: a worker that is back in time keeps its partitions"
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="whether the connection is encrypted, and whether we log in"
    )
    ssl_ca_file: Path | None = Field(
        default=None, description="who signs the brokers' certificates; default: the system's"
    )
    ssl_cert_file: Path | None = Field(default=None, description="our own certificate (PEM), for mutual TLS")
    ssl_key_file: Path | None = Field(default=None, description="its key (PEM)")
    ssl_key_password: SecretStr | None = Field(default=None, description="of the key, where it has one")
    ssl_check_hostname: bool = Field(
        default=True, description="whether a broker's certificate must be of its host name"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(
        default="SCRAM-SHA-512", description="how we log in"
    )
    sasl_username: str | None = Field(default=None, description="for PLAIN and SCRAM")
    sasl_password: SecretStr | None = Field(default=None, description="for PLAIN and SCRAM; better in a file")
    sasl_password_file: Path | None = Field(default=None, description="a file that holds the password and nothing else")
    sasl_token_provider: str | None = Field(
        default=None, description="for OAUTHBEARER: `module:name` of a function without arguments that returns a token"
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.ssl_cert_file is None) != (self.ssl_key_file is None):
            raise ValueError("ssl_cert_file and ssl_key_file go together")
        if self.sasl_password is not None and self.sasl_password_file is not None:
            raise ValueError("give sasl_password or sasl_password_file, not both")
        if not self.security_protocol.startswith("SASL"):
            return self
        if self.sasl_mechanism == "OAUTHBEARER":
            if self.sasl_token_provider is None:
                raise ValueError("sasl_mechanism OAUTHBEARER needs sasl_token_provider")
        elif self.sasl_username is None or (self.sasl_password is None and self.sasl_password_file is None):
            raise ValueError(f"sasl_mechanism {self.sasl_mechanism} needs sasl_username and a password")
        return self


class SourceSettings(_Section):
    """Ingest: which records, and how many at once."""

    topic: str = Field(default="bid-requests", description="where requests come from")
    start_at: Literal["earliest", "latest"] = Field(
        default="earliest", description="where a group without commits starts"
    )
    deadline_from: Literal["record", "arrival"] = Field(
        default="record", description="where a budget starts: at the record's timestamp, or at its receipt"
    )
    budget_ms: float = Field(default=30.0, gt=0, description="time for an answer, where the request names none")
    max_budget_ms: float = Field(
        default=10_000.0, gt=0, description="the most that a request's deadline_ms may ask for"
    )
    max_poll_records: int = Field(default=4, ge=1, description="records of one chunk, decoded before others run")
    max_in_flight_records: int = Field(default=48, ge=1, description="records unanswered at once; then reading stops")
    max_unacknowledged_records: int = Field(
        default=240, ge=1, description="records whose answers no broker has acknowledged; then reading stops"
    )
    max_partition_share: float = Field(
        default=0.5, gt=0, le=1, description="of those, what one of several partitions may have; then it is paused"
    )
    max_unacknowledged_bytes: int = Field(
        default=64 * 2**20, ge=1, description="reading pauses above this many bytes of unacknowledged records"
    )
    fetch_max_wait_ms: int = Field(default=100, ge=1, description="how long a broker holds a fetch without records")
    max_partition_fetch_bytes: int = Field(default=4 * 2**20, ge=1024, description="the most that one fetch brings")


class CodecSettings(_Section):
    """Decoding: what is refused for its size."""

    max_record_bytes: int = Field(default=2**20, ge=1024, description="larger records are refused unparsed")
    max_candidates: int = Field(default=4096, ge=1, description="requests with more are refused")


class FeaturesSettings(_Section):
    """Encoding."""

    memoised_ads: int = Field(default=20_000, ge=0, description="ads whose encoded rows are kept")


class CacheSettings(_Section):
    """Scores already known, by model version and encoded row."""

    enabled: bool = Field(default=True, description="whether scores are kept at all")
    max_bytes: int = Field(default=16 * 2**20, ge=2**16, description="memory of the table, taken at the start")
    ttl_s: float = Field(default=30.0, gt=0, description="how long a score may be used again")
    ttl_jitter: float = Field(default=0.1, ge=0, lt=1, description="share by which lifetimes differ")
    min_hit_ratio: float = Field(default=0.02, ge=0, le=1, description="below it the cache is by-passed; 0: never")


class BatchingSettings(_Section):
    """Micro-batches, counted in rows (candidates)."""

    max_batch_rows: int = Field(default=1200, ge=1, description="rows of one call; larger requests are split")
    max_wait_ms: float = Field(default=0.0, ge=0, description="how long rows wait for company while a slot is free")
    concurrency: Literal["fixed", "adaptive"] = Field(
        default="fixed", description="adaptive: as many calls at once as the servers work on, learnt from their replies"
    )
    max_concurrent_calls: int = Field(default=3, ge=1, description="calls at once; with `adaptive` the most")
    max_queued_rows: int = Field(default=40_000, ge=1, description="rows waiting; beyond, requests get priors at once")
    answer_margin_ms: float = Field(default=2.0, ge=0, description="kept of a budget for publishing the answer")


class PredictorSettings(_Section):
    """TensorFlow Serving."""

    addresses: tuple[str, ...] = Field(
        default=("localhost:8500",), min_length=1, description="model servers, `host:port` or `dns:///name:port`"
    )
    models: tuple[str, ...] = Field(
        default=("ctr",), min_length=1, description="models that requests may name; the first serves those that do not"
    )
    tls: bool = Field(default=False, description="whether the connection is encrypted")
    tls_ca_file: Path | None = Field(
        default=None, description="who signs the servers' certificates; default: gRPC's own list"
    )
    tls_cert_file: Path | None = Field(default=None, description="our own certificate (PEM), for mutual TLS")
    tls_key_file: Path | None = Field(default=None, description="its key (PEM)")
    tls_server_name: str | None = Field(
        default=None, description="the name in the servers' certificates, where it is not that of the address"
    )
    spec_files: Mapping[str, Path] = Field(
        default={}, description="feature spec (YAML) by model, for models without a `feature_spec` signature"
    )
    labels: Mapping[str, str] = Field(
        default={}, description="version label by model: what it leads to serves, instead of the newest version"
    )
    poll_interval_ms: float = Field(default=1000.0, gt=0, description="how often served versions are asked for")
    control_timeout_ms: float = Field(default=5000.0, gt=0, description="for status, spec and warm-up calls")
    circuit_failures: int = Field(default=5, ge=1, description="failures in a row after which a server is left alone")
    circuit_open_ms: float = Field(default=100.0, gt=0, description="how long at first; each more failure doubles it")
    circuit_max_open_ms: float = Field(default=2000.0, gt=0, description="the longest pause")
    retry_share: float = Field(default=0.1, ge=0, le=1, description="retries, as a share of the successful calls")
    warmup_requests: int = Field(default=16, ge=0, description="recent requests that a new version is warmed with")

    @model_validator(mode="after")
    def _key_pair(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file go together")
        return self

    @model_validator(mode="after")
    def _labels_of_models(self) -> Self:
        strangers = self.labels.keys() - set(self.models)
        if strangers:
            raise ValueError(f"labels: {', '.join(sorted(strangers))} is not among models")
        return self

    @field_validator("models")
    @classmethod
    def _named_once(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(models)) < len(models):
            raise ValueError("a model stands twice")
        return models


class RolloutSettings(_Section):
    """How users move to a newer version."""

    ramp_s: float = Field(default=5.0, ge=0, description="from the first user to the last one; 0: all at once")


class GuardSettings(_Section):
    """When a version that has just begun to serve is rolled back by itself."""

    watched_calls: int = Field(default=1000, ge=0, description="calls after which a version is trusted; 0: at once")
    max_error_share: float = Field(default=0.5, gt=0, le=1, description="of its calls, at least 20, that may fail")
    max_drift: float = Field(default=1.0, gt=0, description="stability index of its scores against those before it")
    min_rows: int = Field(default=5000, ge=1, description="scores on each side before they are compared")


class ShadowSettings(_Section):
    """Requests that a version in the shadow scores too, after they have been answered."""

    timeout_ms: float = Field(default=1000.0, gt=0, description="for scoring and publishing one of them")
    max_queued_requests: int = Field(
        default=16, ge=1, description="requests waiting; beyond, they are left out and counted"
    )


class FeatureLogSettings(_Section):
    """Rows that requests were scored by, published for training."""

    share: float = Field(default=0.0, ge=0, le=1, description="of the requests, chosen by their ids; 0: none")
    timeout_ms: float = Field(default=1000.0, gt=0, description="for publishing one of them")
    max_queued_requests: int = Field(
        default=64, ge=1, description="requests waiting; beyond, they are left out and counted"
    )


class SinkSettings(_Section):
    """Answers and dead letters."""

    topic: str = Field(default="ctr-scores", description="where answers go")
    shadow_topic: str = Field(default="ctr-shadow-scores", description="where a version in the shadow has its scores")
    feature_log_topic: str = Field(default="feature-log", description="where the feature log goes")
    dead_letter_topic: str = Field(
        default="dead-letters",
        description="where records go that cannot be answered: no request id, too large an answer, a worker's death",
    )
    max_request_bytes: int = Field(default=8 * 2**20, ge=2**16, description="the largest message that is produced")
    retry_ms: float = Field(default=500.0, gt=0, description="pause before an answer that was refused is sent again")


class OffsetsSettings(_Section):
    """Commits."""

    commit_interval_ms: float = Field(default=200.0, gt=0, description="how often what is done is committed")
    max_uncommitted_records: int = Field(default=1000, ge=1, description="records read since; then reading stops")


class DeliverySettings(_Section):
    """What a crash does to answers: repeats them, loses them, or neither."""

    guarantee: Literal["at_least_once", "exactly_once", "at_most_once"] = Field(
        default="at_least_once", description="exactly_once: for readers with `read_committed`, in transactions"
    )
    transaction_interval_ms: float = Field(default=100.0, gt=0, description="how often what is ready leaves in one")
    max_transaction_records: int = Field(default=100, ge=1, description="records of one; so many ready do not wait")
    transaction_timeout_ms: int = Field(
        default=10_000,
        ge=1000,
        description="how long one may take; then it is aborted, and its answers go with the next",
    )


class OpsSettings(_Section):
    """The operations port: /healthz, /readyz, /metrics, /status, /config, /model."""

    host: str = Field(default="127.0.0.1", description="interface that it listens on")
    port: int = Field(default=9100, ge=0, le=65535, description="0 takes a free one and logs it")
    socket: Path | None = Field(
        default=None, description="a Unix socket to listen on instead; a supervisor's workers do"
    )
    token: SecretStr | None = Field(
        default=None, description="what must be sent as `Authorization: Bearer …`, but for /healthz and /readyz"
    )


class SupervisorSettings(_Section):
    """Several workers on one machine."""

    workers: int = Field(default=1, ge=1, le=256, description="processes; with more than one a supervisor runs them")
    restart_pause_ms: float = Field(
        default=500.0, gt=0, description="before a worker that ended is started again; doubles"
    )
    max_restarts: int = Field(
        default=5, ge=0, description="of one worker within the window; then the supervisor gives up"
    )
    restart_window_s: float = Field(default=300.0, gt=0, description="how long an end is remembered")
    poll_ms: float = Field(
        default=200.0, gt=0, description="how often a worker that reloads is asked whether it is ready"
    )
    pin_to_cores: bool = Field(default=False, description="each worker on a core of its own, as far as there are cores")


class ServiceSettings(_Section):
    """One worker's life."""

    drain_ms: float = Field(default=10_000.0, gt=0, description="for answering what is in flight on SIGTERM")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="the least severe that is logged"
    )
    log_format: Literal["json", "console"] = Field(default="json", description="console: for people")


class TopicsSettings(_Section):
    """What `streamer topics create` makes."""

    partitions: int = Field(default=8, ge=1, description="of each topic: at most so many workers share the work")
    replication_factor: int = Field(default=1, ge=1, description="copies of each partition")
    retention_ms: int = Field(default=600_000, ge=1000, description="of requests and answers")
    dead_letter_retention_ms: int = Field(default=7 * 86_400_000, ge=1000, description="of dead letters")
    feature_log_retention_ms: int = Field(default=86_400_000, ge=1000, description="of the feature log")
