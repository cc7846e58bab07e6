"""Sections that depend on the deployment: brokers, operations port, processes, topics."""

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from streamer.settings.hosts import is_loopback
from streamer.settings.sections import MOST, Section

_COLLECTOR = re.compile(r"https?://[^/\s@]+:([0-9]{1,5})/?")


def _check_token(token: SecretStr | None) -> None:
    """Raises ValueError if a header cannot contain the token."""
    text = None if token is None else token.get_secret_value()
    if text is not None and not (text.isascii() and text.isprintable() and text == text.strip() != ""):
        raise ValueError("token: empty, or not printable ASCII, or with a space or a line end around it")


class KafkaSettings(Section):
    """The connection to the brokers, and this consumer group's name there."""

    bootstrap_servers: str = "localhost:9092"
    """Brokers of the first connection, as `host:port`, separated by commas."""
    group_id: str = Field(default="ctr-streamer", min_length=1)
    """Consumer group. Its workers share the partitions."""
    client_id: str = "ctr-streamer"
    """Name of this client in the brokers' logs and metrics."""
    request_timeout_ms: int = Field(default=10_000, gt=0, le=MOST)
    """Timeout of one request to a broker, in milliseconds."""
    session_timeout_ms: int = Field(default=10_000, ge=1000, le=MOST)
    """A member of the group that sends no heartbeat for this many milliseconds loses its partitions."""
    heartbeat_interval_ms: int = Field(default=300, gt=0)
    """Interval between heartbeats, in milliseconds: a member learns of a rebalance by the answer to a heartbeat."""
    group_instance_id: str | None = Field(default=None, min_length=1)
    """Static name of this process in the group. After a crash the next process of this name gets its partitions."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """Encryption (SSL) and login (SASL) of the connection."""
    ssl_ca_file: Path | None = None
    """Certificate authorities of the brokers (PEM). Default: those of the system."""
    ssl_cert_file: Path | None = None
    """The scorer's own certificate (PEM), for mutual TLS."""
    ssl_key_file: Path | None = None
    """Private key of `ssl_cert_file` (PEM)."""
    ssl_key_password: SecretStr | None = None
    """Password of `ssl_key_file`, if it has one."""
    ssl_check_hostname: bool = True
    """Whether a broker's certificate must contain the broker's host name."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = "SCRAM-SHA-512"
    """Login method."""
    sasl_username: str | None = None
    """User name for PLAIN and SCRAM."""
    sasl_password: SecretStr | None = None
    """Password for PLAIN and SCRAM. Prefer `sasl_password_file`."""
    sasl_password_file: Path | None = None
    """File that contains the password and nothing else."""
    sasl_token_provider: str | None = None
    """For OAUTHBEARER: `module:name` of a function without arguments that returns a token."""

    @model_validator(mode="after")
    def _several_heartbeats(self) -> Self:
        most = self.session_timeout_ms // 3
        if self.heartbeat_interval_ms > most:
            raise ValueError(
                f"heartbeat_interval_ms is {self.heartbeat_interval_ms}, at most a third of session_timeout_ms"
                f" ({most}) is allowed: one lost heartbeat must not end a session"
            )
        return self

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


class HttpSettings(Section):
    """The port of `POST /v1/score`: requests without Kafka."""

    host: str = Field(default="127.0.0.1", min_length=1)
    """Interface that the port listens on. An interface other than loopback needs a token."""
    port: int | None = Field(default=None, ge=0, le=65535)
    """TCP port. Not set: `streamer run` has none, and `streamer serve-http` listens on 8080. 0: a free port."""
    token: SecretStr | None = None
    """Token of all requests, as `Authorization: Bearer …`."""
    tls_cert_file: Path | None = None
    """Certificate of the port (PEM). Not set: plain HTTP."""
    tls_key_file: Path | None = None
    """Private key of `tls_cert_file` (PEM)."""
    max_connections: int = Field(default=512, ge=1)
    """Open connections, idle ones included. Further ones are closed at once."""

    @model_validator(mode="after")
    def _can_be_used(self) -> Self:
        _check_token(self.token)
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file go together")
        if self.token is None and not is_loopback(self.host):
            raise ValueError(f"host {self.host} is no loopback address: set token, or any client could use the scorer")
        return self


class OpsSettings(Section):
    """The operations port: /healthz, /readyz, /metrics, /status, /config, /model."""

    host: str = Field(default="127.0.0.1", min_length=1)
    """Interface that the port listens on."""
    port: int = Field(default=9100, ge=0, le=65535)
    """TCP port. 0 takes a free port and logs its number."""
    socket: Path | None = None
    """Unix socket that replaces the TCP port. A supervisor sets it for its workers."""
    token: SecretStr | None = None
    """Token for all requests but probes, as `Authorization: Bearer …`. Orders need it if `host` is not loopback."""

    @model_validator(mode="after")
    def _can_be_sent(self) -> Self:
        _check_token(self.token)
        return self


class TracingSettings(Section):
    """Traces by OpenTelemetry, which the extra `tracing` installs."""

    enabled: bool = False
    """Whether sampled requests are traced."""
    endpoint: str | None = None
    """Collector of OTLP over gRPC, `http://host:port` or `https://…`. Default: `OTEL_EXPORTER_OTLP_ENDPOINT`."""
    share: float = Field(default=0.01, ge=0, le=1)
    """Sampled share of the requests without a `traceparent`. With one, its sampled flag decides."""

    @model_validator(mode="after")
    def _is_a_collector(self) -> Self:
        # The error of a field would repeat a password in it.
        found = None if self.endpoint is None else _COLLECTOR.fullmatch(self.endpoint)
        if self.endpoint is not None and (found is None or not 0 < int(found[1]) < 2**16):
            raise ValueError("endpoint: expected http://host:port or https://host:port, without user and password")
        return self


class RegistrySettings(Section):
    """A schema registry with Confluent's API, whose client the extra `registry` installs."""

    url: str | None = Field(default=None, pattern=r"^https?://[^\s@/]+(/[^\s@]*)?$")
    """Its URL, without a user. Not set: requests with its prefix are read, but their schemas are not checked."""
    username: str | None = Field(default=None, min_length=1)
    """User name, for HTTP's basic authentication."""
    password: SecretStr | None = None
    """Password of this user."""
    ca_file: Path | None = None
    """Certificate authorities of the registry (PEM). Default: those of Mozilla."""
    register_answers: bool = True
    """Whether a missing schema of the answers is registered. Otherwise the newest version of their subject is used."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        if self.url is None and (self.username is not None or self.ca_file is not None):
            raise ValueError("username, password and ca_file are not used without url")
        return self


class ServiceSettings(Section):
    """The life of one worker."""

    drain_ms: float = Field(default=10_000.0, gt=0, le=MOST)
    """Time to answer all records in flight after SIGTERM, in milliseconds."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is logged."""
    log_format: Literal["json", "console"] = "json"
    """`json`: one object per line. `console`: coloured text."""


class SupervisorSettings(Section):
    """Several processes on one machine, under a supervisor."""

    workers: int | None = Field(default=None, ge=1, le=256)
    """Worker processes. Not set: this process works alone, without a supervisor and without a standby."""
    standby: int = Field(default=1, ge=0, le=256)
    """Further processes that take over the partitions of a worker that ends."""
    restart_pause_ms: float = Field(default=500.0, gt=0)
    """Pause before a worker restarts, in milliseconds. It doubles with each end before it was ready, up to a minute."""
    max_restarts: int = Field(default=5, ge=0)
    """Restarts of one worker within `restart_window_s`. At its next end the supervisor drains all workers and exits."""
    restart_window_s: float = Field(default=300.0, gt=0)
    """Window for `max_restarts`, in seconds. Earlier ends do not count."""
    hung_after_ms: float = Field(default=5_000.0, ge=1_000)
    """A worker that shows no sign of life for so long is killed, in milliseconds. It sends two signs a second."""
    pin_to_cores: bool = False
    """Whether active worker N runs only on core N (modulo the number of cores)."""
    link: int | None = Field(default=None, ge=0)
    """File descriptor of the connection to the supervisor, which sets it for its workers."""

    @property
    def active(self) -> int:
        """The number of processes that read."""
        return self.workers or 1

    @property
    def processes(self) -> int:
        """The number of processes, the standby ones included."""
        return self.active + self.standby


class TopicsSettings(Section):
    """The topics that `streamer topics create` creates."""

    partitions: int = Field(default=8, ge=1, le=MOST)
    """Partitions of each topic. At most this many workers share the work."""
    replication_factor: int = Field(default=1, ge=1, le=2**15 - 1)
    """Copies of each partition."""
    retention_ms: int = Field(default=600_000, ge=1000, le=2**62)
    """Retention of requests and answers, in milliseconds."""
    dead_letter_retention_ms: int = Field(default=7 * 86_400_000, ge=1000, le=2**62)
    """Retention of dead letters, in milliseconds."""
    feature_log_retention_ms: int = Field(default=86_400_000, ge=1000, le=2**62)
    """Retention of the feature log, in milliseconds."""
