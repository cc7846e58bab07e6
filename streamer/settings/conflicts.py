"""Settings that are valid one by one and cannot work together. Pure."""

import re
from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel

from streamer.settings.sections import JUDGED_CALLS

if TYPE_CHECKING:
    from streamer.settings.loading import Settings

_TOPIC = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")
_LABEL = r"[^\s:/\[\],.]{1,63}"
_HOST = rf"(\[[0-9A-Fa-f:.]+\]|{_LABEL}(\.{_LABEL})*\.?)"
_BROKER = re.compile(rf"{_HOST}(:(?P<port>\d{{1,5}}))?")
_MODEL_SERVER = re.compile(rf"(dns:(//[^/\s]*/)?)?{_HOST}:(?P<port>\d{{1,5}})")
_REST_SERVER = re.compile(rf"(dns:(///)?)?{_HOST}:(?P<port>\d{{1,5}})")
# gRPC takes one or more addresses after these schemes.
_LISTS: Final = ("ipv4", "ipv6")
# TensorFlow Serving takes a name from the path as it stands, without decoding.
_IN_A_PATH = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=@-]+")
_OTHER_RESOLVERS: Final = ("unix:", "unix-abstract:", "vsock:", "xds:")


def conflicts(settings: "Settings") -> list[str]:
    """A line for each contradiction, with the names of its settings."""
    checks = (_topics, _addresses, _budgets, _queues, _of_the_guard, _kafka_security, _models)
    return [line for check in checks for line in check(settings)]


def _topics(settings: "Settings") -> Iterator[str]:
    sink = settings.sink
    topics = {
        "source.topic": settings.source.topic,
        "sink.topic": sink.topic,
        "sink.dead_letter_topic": sink.dead_letter_topic,
        "sink.shadow_topic": sink.shadow_topic,
        "sink.feature_log_topic": sink.feature_log_topic,
    }
    if settings.ads.topic is not None:
        topics["ads.topic"] = settings.ads.topic
    for name, topic in topics.items():
        if not _TOPIC.fullmatch(topic):
            yield f"{name}: {topic!r} is no topic name: 1 to 249 letters, digits, '.', '_' and '-' are allowed"
    for (name, topic), (other, its_topic) in combinations(topics.items(), 2):
        if topic == its_topic:
            why = (
                "the scorer would read what it writes, endlessly" if name == "source.topic" else "their readers differ"
            )
            yield f"{name}, {other}: both are {topic!r}; {why}"


def _addresses(settings: "Settings") -> Iterator[str]:
    for address in settings.kafka.bootstrap_servers.split(","):
        if not _fits(_BROKER, address.strip()):
            yield f"kafka.bootstrap_servers: {address!r} is no address; expected host:port"
    if settings.http.port and settings.http.port == settings.ops.port and settings.ops.socket is None:
        yield f"http.port, ops.port: both are {settings.ops.port}"
    if settings.http.port == 0 and settings.supervisor.workers is not None:
        yield "http.port, supervisor.workers: each worker would take another free port; name the one that they share"
    is_rest = settings.predictor.protocol == "rest"
    for address in settings.predictor.addresses:
        if is_rest and not _fits(_REST_SERVER, address):
            yield f"predictor.addresses: {address!r}: REST takes host:port or dns:///name:port"
            continue
        if settings.predictor.protocol not in ("grpc", "rest"):
            continue  # the form is the predictor's own
        scheme, _, listed = address.partition(":")
        parts = listed.split(",") if scheme in _LISTS else [address]
        if not address.startswith(_OTHER_RESOLVERS) and not all(_fits(_MODEL_SERVER, part) for part in parts):
            yield f"predictor.addresses: {address!r} is no address; expected host:port or dns:///name:port"


def _fits(pattern: re.Pattern[str], address: str) -> bool:
    found = pattern.fullmatch(address)
    return found is not None and 0 < int(found["port"] or 9092) <= 65_535


def _budgets(settings: "Settings") -> Iterator[str]:
    source, margin_ms = settings.source, settings.batching.answer_margin_ms
    for name, budget_ms in (("budget_ms", source.budget_ms), ("max_budget_ms", source.max_budget_ms)):
        if margin_ms >= budget_ms:
            yield (
                f"batching.answer_margin_ms, source.{name}: the margin of {margin_ms:g} ms leaves nothing of a budget"
                f" of {budget_ms:g} ms"
            )
    if source.fetch_max_wait_ms >= settings.kafka.request_timeout_ms:
        yield (
            f"source.fetch_max_wait_ms, kafka.request_timeout_ms: a fetch that waits {source.fetch_max_wait_ms} ms for"
            f" records times out after {settings.kafka.request_timeout_ms} ms"
        )
    if source.backlog == "skip" and source.deadline_from == "arrival":
        yield "source.backlog, source.deadline_from: a budget that starts at arrival leaves no backlog to skip"
    open_ms, most_ms = settings.predictor.circuit_open_ms, settings.predictor.circuit_max_open_ms
    if open_ms > most_ms:
        yield f"predictor.circuit_open_ms, predictor.circuit_max_open_ms: {open_ms:g} ms is above {most_ms:g} ms"


def _queues(settings: "Settings") -> Iterator[str]:
    rows = settings.batching.max_queued_rows
    others = {
        "codec.max_candidates": settings.codec.max_candidates,
        "batching.max_batch_rows": settings.batching.max_batch_rows,
    }
    for name, other in others.items():
        if rows < other:
            what = "a request" if name.startswith("codec") else "a batch"
            yield f"batching.max_queued_rows, {name}: a queue of {rows} rows never holds {what} of {other}"


def _of_the_guard(settings: "Settings") -> Iterator[str]:
    guard, batch = settings.guard, settings.batching.max_batch_rows
    if 0 < guard.watched_calls < JUDGED_CALLS:
        yield (
            f"guard.watched_calls, guard.max_error_share: {guard.watched_calls} calls are too few for a share of failed"
            f" calls, which needs {JUDGED_CALLS}; 0 switches the guard off"
        )
    elif 0 < guard.watched_calls * batch < guard.min_rows:
        yield (
            f"guard.min_rows, guard.watched_calls: {guard.watched_calls} calls of at most {batch} rows"
            f" (batching.max_batch_rows) never have {guard.min_rows} rows"
        )


def _kafka_security(settings: "Settings") -> Iterator[str]:
    kafka = settings.kafka
    protocol, mechanism = kafka.security_protocol, kafka.sasl_mechanism
    given = _given("kafka", kafka)
    tls = [name for name in given if name.startswith("kafka.ssl_")]
    login = [name for name in given if name.startswith("kafka.sasl_")]
    if tls and not protocol.endswith("SSL"):
        yield f"{', '.join(tls)}: not used with kafka.security_protocol {protocol}; SSL and SASL_SSL encrypt"
    elif "kafka.ssl_key_password" in tls and "kafka.ssl_key_file" not in tls:
        yield "kafka.ssl_key_password: not used without kafka.ssl_key_file"
    if login and not protocol.startswith("SASL"):
        yield f"{', '.join(login)}: not used with kafka.security_protocol {protocol}; SASL_SSL logs in"
    elif protocol.startswith("SASL"):
        is_token = mechanism == "OAUTHBEARER"
        others = ("username", "password", "password_file") if is_token else ("token_provider",)
        if unused := [name for name in login if name.removeprefix("kafka.sasl_") in others]:
            yield f"{', '.join(unused)}: not used with kafka.sasl_mechanism {mechanism}"


def _models(settings: "Settings") -> Iterator[str]:
    predictor = settings.predictor
    tls = [name for name in _given("predictor", predictor) if name.startswith("predictor.tls_")]
    if tls and not predictor.tls:
        yield f"{', '.join(tls)}: not used while predictor.tls is false"
    if predictor.protocol == "rest":
        named = [("models", name) for name in predictor.models] + [
            ("labels", label) for label in predictor.labels.values()
        ]
        for setting, name in named:
            if not _IN_A_PATH.fullmatch(name):
                yield f"predictor.{setting}: {name!r} cannot be in the path of a REST call; use predictor.protocol grpc"
    if unknown := sorted(predictor.spec_files.keys() - set(predictor.models)):
        yield f"predictor.spec_files, predictor.models: {', '.join(unknown)} is not among the models"


def _given(section: str, values: BaseModel) -> list[str]:
    """The settings of a section that differ from their defaults."""
    fields = type(values).model_fields
    return [f"{section}.{name}" for name, value in values if value != fields[name].default]
