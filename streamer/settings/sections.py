"""Sections of the pipeline's stages: one small frozen value for each stage.

The text below a setting is its description in `docs/settings.md`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from streamer.errors import ConfigError
from streamer.extensions import load, request_readers

MOST: Final = 2**30
"""Upper bound of values for brokers, whose protocol has 32 bits for them, and for the sum of two times."""
EXTENSION_NAME: Final = r"^[A-Za-z][A-Za-z0-9._-]*$"
"""Form of the name by which another package provides something."""
JUDGED_CALLS: Final = 20
"""Calls from which on the guard judges a share of failed calls."""

AnswerForm = Literal["json", "as_requested"]
"""Whether answers are JSON, or in the form of their requests."""
UnknownAds = Literal["default", "prior", "invalid"]
"""What an ad gets that the table does not contain."""


class Section(BaseModel):
    """A frozen section. It rejects unknown keys, infinite numbers and NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SourceSettings(Section):
    """Reading: the input topic, the requests' budgets, and the bounds at which reading pauses."""

    topic: str = "bid-requests"
    """Input topic."""
    start_at: Literal["earliest", "latest"] = "earliest"
    """First position of a group that has never read the topic. Partitions added later are read from their beginning."""
    deadline_from: Literal["record", "arrival"] = "record"
    """Start of a request's budget: the record's timestamp, or its receipt."""
    budget_ms: float = Field(default=30.0, gt=0)
    """Budget of a request that has no `deadline_ms`, in milliseconds."""
    max_budget_ms: float = Field(default=10_000.0, gt=0)
    """Upper bound of a request's own `deadline_ms`, in milliseconds. Larger values are reduced to it."""
    max_poll_records: int = Field(default=4, ge=1)
    """Records per chunk. One chunk is decoded before other work runs."""
    max_in_flight_records: int = Field(default=48, ge=1)
    """Reading pauses at this many records in flight (received, not answered yet)."""
    max_unacknowledged_records: int = Field(default=240, ge=1)
    """Reading pauses at this many unacknowledged records (received, answer not acknowledged by the broker yet)."""
    max_partition_share: float = Field(default=0.5, gt=0, le=1)
    """One of several partitions is paused when it has this share of `max_unacknowledged_records`."""
    max_unacknowledged_bytes: int = Field(default=16 * 2**20, ge=1)
    """Reading pauses above this many bytes of unacknowledged records."""
    backlog: Literal["answer", "skip"] = "answer"
    """Requests that are older than `budget_ms` when a partition is opened: `answer` them, or `skip` and count them."""
    max_backlog_records: int = Field(default=16, ge=1)
    """Unacknowledged records of the backlog, in addition to the live ones. More of them delay live records longer."""
    fetch_max_wait_ms: int = Field(default=100, ge=1, le=5000)
    """Longest time that a broker delays the reply to a fetch without records, in milliseconds."""
    max_partition_fetch_bytes: int = Field(default=2**20, ge=1024, le=MOST)
    """Bytes per partition in the reply to one fetch."""


class CodecSettings(Section):
    """Decoding: bounds of one request."""

    max_record_bytes: int = Field(default=2**20, ge=1024, le=2**23)
    """Records of more bytes are rejected unparsed."""
    max_candidates: int = Field(default=4096, ge=1)
    """Requests with more candidates are rejected."""
    formats: tuple[str, ...] = ()
    """Codecs of other packages, by name, for requests of other content types, over HTTP too."""

    @field_validator("formats")
    @classmethod
    def _are_installed(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        try:
            request_readers(formats)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return formats


class FeaturesSettings(Section):
    """Encoding."""

    memoised_ads: int = Field(default=20_000, ge=0)
    """Ads whose encoded rows stay in memory, on average at most 800 bytes beside the row; the oldest are evicted."""


class AdsSettings(Section):
    """The ad catalogue: a compacted topic, so that requests can name ads by id only."""

    topic: str | None = Field(default=None, min_length=1)
    """Compacted topic with the features of each ad, by ad id. Default: none, and requests contain all features."""
    unknown: UnknownAds = "default"
    """Ads that the topic does not contain: `default` values of the missing features, the `prior`, or `invalid`."""
    directory: Path = Path("/dev/shm/ctr-streamer")  # noqa: S108  shared memory is the purpose
    """Where the workers of this machine share the encoded ads: a folder in memory."""
    max_bytes: int = Field(default=2**30, ge=2**20)
    """Bytes of memory for the ads of one feature spec, for all workers of this machine; two specs for each model."""


class CacheSettings(Section):
    """Cache of scores by model version and encoded row."""

    enabled: bool = True
    """Whether scores are cached."""
    max_bytes: int = Field(default=16 * 2**20, ge=2**16)
    """Memory of the cache table in bytes, allocated at the start."""
    ttl_s: float = Field(default=30.0, gt=0)
    """Longest time that a score is reused, in seconds."""
    ttl_jitter: float = Field(default=0.1, ge=0, lt=1)
    """A score's lifetime is shorter than `ttl_s` by a random share up to this one."""
    min_hit_ratio: float = Field(default=0.02, ge=0, le=1)
    """Below this hit ratio requests bypass the cache. 0: never."""


class BatchingSettings(Section):
    """Micro-batches. Their size is counted in rows (one row per candidate)."""

    batch_rows: int = Field(default=1200, ge=1)
    """Rows of a full batch: so many leave together while the queue is short. A larger request is split."""
    max_batch_rows: int = Field(default=1800, ge=1)
    """Upper bound of the rows of one call. Batches grow up to it while more than a full one is queued for each call."""
    max_wait_ms: float = Field(default=0.0, ge=0)
    """Batch delay: longest time that rows wait for a fuller batch while a call is possible, in milliseconds."""
    max_concurrent_calls: int = Field(default=32, ge=1)
    """Upper bound of a worker's concurrent calls to each model server. The limit below it follows the server."""
    max_queued_rows: int = Field(default=40_000, ge=1)
    """Rows in the batch queue. A full queue rejects further requests; they are answered with priors at once."""
    answer_margin_ms: float = Field(default=2.0, ge=0)
    """Part of each request's budget that is reserved for publishing the answer, in milliseconds."""


class PredictorSettings(Section):
    """Calls to TensorFlow Serving."""

    protocol: str = Field(default="grpc", pattern=EXTENSION_NAME)
    """`grpc`; `rest`, which costs more CPU, where the network passes only HTTP; or the predictor of another package."""
    addresses: tuple[str, ...] = Field(default=("localhost:8500",), min_length=1)
    """Model servers, as `host:port` or `dns:///name:port`, which is a server per address. Port with `rest`: 8501."""
    models: tuple[str, ...] = Field(default=("ctr",), min_length=1)
    """Models that a request can name. The first one scores requests that name none."""
    tls: bool = False
    """Whether the connection is encrypted."""
    tls_ca_file: Path | None = None
    """Certificate authorities of the servers (PEM). Default: gRPC's own list; with `rest` the system's."""
    tls_cert_file: Path | None = None
    """The scorer's own certificate (PEM), for mutual TLS."""
    tls_key_file: Path | None = None
    """Private key of `tls_cert_file` (PEM)."""
    tls_server_name: str | None = None
    """Name in the servers' certificates, if it differs from the address."""
    spec_files: Mapping[str, Path] = {}
    """Feature spec (YAML) by model, for models without a `feature_spec` signature."""
    labels: Mapping[str, str] = {}
    """Version label by model. The labelled version serves instead of the newest one."""
    poll_interval_ms: float = Field(default=1000.0, gt=0)
    """Interval between queries for the available versions, in milliseconds."""
    control_timeout_ms: float = Field(default=5000.0, gt=0)
    """Timeout of a status or spec call, and of all warm-up calls of a version together, in milliseconds."""
    circuit_failures: int = Field(default=5, ge=1)
    """Consecutive failed calls that open the circuit of a version on a server. An open circuit gets no calls."""
    circuit_open_ms: float = Field(default=100.0, gt=0)
    """Time until the first probe call of an open circuit, in milliseconds. Each failed probe doubles it."""
    circuit_max_open_ms: float = Field(default=2000.0, gt=0)
    """Upper bound of the time between two probe calls, in milliseconds."""
    retry_share: float = Field(default=0.1, ge=0, le=1)
    """Retries of a model as a share of its successful calls."""
    warmup_requests: int = Field(default=16, ge=0)
    """Recent requests that warm a new version before it serves."""

    @model_validator(mode="after")
    def _key_pair(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file go together")
        return self

    @model_validator(mode="before")
    @classmethod
    def _default_port(cls, values: Any) -> Any:
        is_rest = isinstance(values, dict) and values.get("protocol") == "rest"
        return {"addresses": ("localhost:8501",), **values} if is_rest else values

    @field_validator("protocol")
    @classmethod
    def _is_installed(cls, protocol: str) -> str:
        if protocol not in ("grpc", "rest"):
            try:
                load("ctr_streamer.predictors", protocol)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return protocol

    @model_validator(mode="after")
    def _labels_of_models(self) -> Self:
        unknown = self.labels.keys() - set(self.models)
        if unknown:
            raise ValueError(f"labels: {', '.join(sorted(unknown))} is not among models")
        return self

    @field_validator("models")
    @classmethod
    def _named_once(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(models)) < len(models):
            raise ValueError("a model occurs twice")
        return models


class RolloutSettings(Section):
    """The move of users to an incoming version."""

    ramp_s: float = Field(default=5.0, ge=0)
    """Duration of the ramp from the first user to the last one, in seconds. 0: all users at once."""


class GuardSettings(Section):
    """Conditions under which a version that has just begun to serve is rolled back."""

    watched_calls: int = Field(default=1000, ge=0)
    """Calls during which a new version is watched. 0: it is not watched."""
    max_error_share: float = Field(default=0.5, gt=0, le=1)
    """A larger share of failed calls (of at least 20 calls) rolls the version back."""
    max_drift: float = Field(default=1.0, gt=0)
    """A larger population stability index between its scores and the previous version's rolls the version back."""
    min_rows: int = Field(default=5000, ge=1)
    """Scored rows of each version that the comparison needs."""


class ShadowSettings(Section):
    """Scoring of answered requests by a shadow version."""

    timeout_ms: float = Field(default=1000.0, gt=0)
    """Timeout for scoring and publishing one request, in milliseconds."""
    max_queued_requests: int = Field(default=16, ge=1)
    """Queued requests. A full queue drops and counts further requests."""


class FeatureLogSettings(Section):
    """Publishing of encoded rows for training."""

    share: float = Field(default=0.0, ge=0, le=1)
    """Sampled share of the requests, selected by request id. 0: none."""
    timeout_ms: float = Field(default=1000.0, gt=0)
    """Timeout for publishing one request's rows, in milliseconds."""
    max_queued_requests: int = Field(default=64, ge=1)
    """Queued requests. A full queue drops and counts further requests."""


class SinkSettings(Section):
    """Publishing of answers and dead letters."""

    topic: str = "ctr-scores"
    """Topic of the answers."""
    shadow_topic: str = "ctr-shadow-scores"
    """Topic of a shadow version's scores."""
    feature_log_topic: str = "feature-log"
    """Topic of the feature log."""
    dead_letter_topic: str = "dead-letters"
    """Topic of records without a request id, with a too large answer, or that killed a worker."""
    max_request_bytes: int = Field(default=8 * 2**20, ge=2**16, le=MOST)
    """Largest message that is produced, in bytes."""
    retry_ms: float = Field(default=500.0, gt=0)
    """Pause before a message that the broker did not accept is sent again, in milliseconds."""
    answers: AnswerForm = "json"
    """Form of the answers: `json`, or `as_requested` (Protobuf to a request in Protobuf), over HTTP too."""


class OffsetsSettings(Section):
    """Commits of offsets."""

    commit_interval_ms: float = Field(default=200.0, gt=0)
    """Interval between commits, in milliseconds."""
    max_uncommitted_records: int = Field(default=1000, ge=1)
    """Reading pauses at this many uncommitted records (received, not covered by a commit yet)."""


class DeliverySettings(Section):
    """The delivery guarantee: after a crash, answers can repeat, can be lost, or neither."""

    guarantee: Literal["at_least_once", "exactly_once", "at_most_once"] = "at_least_once"
    """`exactly_once` publishes answers in transactions, for readers with `read_committed`."""
    transaction_interval_ms: float = Field(default=100.0, gt=0)
    """Longest time between two transactions, in milliseconds."""
    max_transaction_records: int = Field(default=100, ge=1)
    """Records per transaction. This many ready records start a transaction at once."""
    transaction_timeout_ms: int = Field(default=10_000, ge=1000, le=MOST)
    """Timeout of a transaction, in milliseconds. After it the transaction is aborted; the next one has its answers."""
    deaths_before_isolation: int = Field(default=3, ge=1)
    """Deaths of workers at one committed offset after which the partition's records are processed one at a time."""
    deaths_before_dead_letter: int = Field(default=2, ge=1)
    """Deaths of workers with one record alone in flight after which it is dead-lettered with stage `crash`."""
