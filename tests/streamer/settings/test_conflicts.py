"""Settings that are valid one by one and cannot work together."""

from itertools import combinations
from pathlib import Path

import pytest
import yaml

from streamer.errors import ConfigError
from streamer.settings import Settings, load_settings
from tests.streamer.settings.test_environment import variables


def lines_of(tmp_path: Path, changed: dict[str, object]) -> list[str]:
    """The lines of the error, none if the settings are valid."""
    document: dict[str, dict[str, object]] = {}
    for name, value in changed.items():
        section, key = name.split(".")
        document.setdefault(section, {})[key] = value
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(document))
    try:
        with variables({}):
            load_settings(path)
    except ConfigError as error:
        return str(error).splitlines()
    return []


LOGIN = {"kafka.sasl_username": "scorer", "kafka.sasl_password": "hunter2"}
TOKEN = {
    "kafka.security_protocol": "SASL_SSL",
    "kafka.sasl_mechanism": "OAUTHBEARER",
    "kafka.sasl_token_provider": "m:f",
}
PAIR = {"kafka.ssl_cert_file": "c", "kafka.ssl_key_file": "k"}
REST = {"predictor.protocol": "rest"}
TOPICS = ("source.topic", "sink.topic", "sink.dead_letter_topic", "sink.shadow_topic", "sink.feature_log_topic")


@pytest.mark.parametrize(("one", "other"), list(combinations(TOPICS, 2)))
def test_two_topics_are_never_the_same(tmp_path: Path, one: str, other: str) -> None:
    (line,) = lines_of(tmp_path, {one: "t", other: "t"})
    assert line.startswith(f"{one}, {other}: both are 't'; ")
    assert ("endlessly" in line) == (one == "source.topic")


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"batching.answer_margin_ms": 30}, "batching.answer_margin_ms, source.budget_ms: "),
        (
            {"batching.answer_margin_ms": 5, "source.max_budget_ms": 5},
            "batching.answer_margin_ms, source.max_budget_ms: ",
        ),
        ({"http.port": 9100}, "http.port, ops.port: both are 9100"),
        ({"http.port": 0, "supervisor.workers": 2}, "http.port, supervisor.workers: each worker would take another"),
        ({"batching.max_queued_rows": 4095}, "batching.max_queued_rows, codec.max_candidates: "),
        (
            {"batching.max_queued_rows": 5000, "batching.max_batch_rows": 6000},
            "batching.max_queued_rows, batching.max_batch_rows: ",
        ),
        (
            {"source.fetch_max_wait_ms": 500, "kafka.request_timeout_ms": 500},
            "source.fetch_max_wait_ms, kafka.request_timeout_ms: ",
        ),
        ({"source.backlog": "skip", "source.deadline_from": "arrival"}, "source.backlog, source.deadline_from: "),
        ({"predictor.circuit_open_ms": 3000}, "predictor.circuit_open_ms, predictor.circuit_max_open_ms: "),
        ({"guard.watched_calls": 19}, "guard.watched_calls, guard.max_error_share: "),
        ({"guard.watched_calls": 20, "batching.max_batch_rows": 100}, "guard.min_rows, guard.watched_calls: "),
        (LOGIN, "kafka.sasl_username, kafka.sasl_password: not used with kafka.security_protocol PLAINTEXT"),
        (
            {"kafka.sasl_password_file": "p", "kafka.security_protocol": "SSL"},
            "kafka.sasl_password_file: not used with",
        ),
        ({"kafka.sasl_mechanism": "PLAIN"}, "kafka.sasl_mechanism: not used with kafka.security_protocol"),
        ({"kafka.ssl_ca_file": "ca.pem"}, "kafka.ssl_ca_file: not used with kafka.security_protocol PLAINTEXT"),
        (
            {**LOGIN, **PAIR, "kafka.security_protocol": "SASL_PLAINTEXT"},
            "kafka.ssl_cert_file, kafka.ssl_key_file: not used with kafka.security_protocol SASL_PLAINTEXT",
        ),
        (
            {"kafka.security_protocol": "SSL", "kafka.ssl_key_password": "x"},
            "kafka.ssl_key_password: not used without kafka.ssl_key_file",
        ),
        ({**TOKEN, "kafka.sasl_username": "x"}, "kafka.sasl_username: not used with kafka.sasl_mechanism OAUTHBEARER"),
        (
            {**LOGIN, "kafka.security_protocol": "SASL_SSL", "kafka.sasl_token_provider": "m:f"},
            "kafka.sasl_token_provider: not used with kafka.sasl_mechanism SCRAM-SHA-512",
        ),
        ({"predictor.tls_ca_file": "ca.pem"}, "predictor.tls_ca_file: not used while predictor.tls is false"),
        ({"predictor.tls_server_name": "x"}, "predictor.tls_server_name: not used while predictor.tls is false"),
        ({"predictor.spec_files": {"cvr": "x.yaml"}}, "predictor.spec_files, predictor.models: cvr is not among"),
        ({"sink.topic": "bid requests"}, "sink.topic: 'bid requests' is no topic name"),
        ({"source.topic": ".."}, "source.topic: '..' is no topic name"),
        ({"kafka.bootstrap_servers": ""}, "kafka.bootstrap_servers: '' is no address"),
        ({"kafka.bootstrap_servers": "a:9092,b:http"}, "kafka.bootstrap_servers: 'b:http' is no address"),
        ({"kafka.bootstrap_servers": "PLAINTEXT://a:9092"}, "kafka.bootstrap_servers: 'PLAINTEXT://a:9092' is no"),
        ({"kafka.bootstrap_servers": "a" * 64}, "kafka.bootstrap_servers: 'aaaa"),
        ({"kafka.bootstrap_servers": "a..b"}, "kafka.bootstrap_servers: 'a..b' is no address"),
        ({"ops.host": ""}, "ops.host: String should have at least 1 character"),
        ({"kafka.bootstrap_servers": "a:70000"}, "kafka.bootstrap_servers: 'a:70000' is no address"),
        ({"predictor.addresses": ["localhost"]}, "predictor.addresses: 'localhost' is no address"),
        ({"predictor.addresses": ["ipv4:10.0.0.1:8500,"]}, "predictor.addresses: 'ipv4:10.0.0.1:8500,' is no address"),
        ({"predictor.addresses": ["http://a:8501"]}, "predictor.addresses: 'http://a:8501' is no address"),
        ({**REST, "predictor.addresses": ["unix:/run/server"]}, "predictor.addresses: 'unix:/run/server': REST takes"),
        ({**REST, "predictor.addresses": ["ipv4:10.0.0.1:1"]}, "predictor.addresses: 'ipv4:10.0.0.1:1': REST takes"),
        ({**REST, "predictor.models": ["a/b"]}, "predictor.models: 'a/b' cannot be in the path of a REST call"),
        ({**REST, "predictor.labels": {"ctr": "a b"}}, "predictor.labels: 'a b' cannot be in the path of a REST call"),
        ({"kafka.session_timeout_ms": 2**31}, "kafka.session_timeout_ms: Input should be less than or equal to"),
        # Above that, /readyz would take an idle topic for an outage of the brokers.
        ({"source.fetch_max_wait_ms": 5001}, "source.fetch_max_wait_ms: Input should be less than or equal to 5000"),
        ({"service.drain_ms": float("inf")}, "service.drain_ms: Input should be "),
        ({"source.budget_ms": float("inf")}, "source.budget_ms: Input should be a finite number"),
        ({"kafka.group_id": ""}, "kafka.group_id: String should have at least 1 character"),
    ],
)
def test_a_contradiction_is_one_line_with_its_settings(tmp_path: Path, changed: dict[str, object], line: str) -> None:
    (found,) = lines_of(tmp_path, changed)
    assert found.startswith(line)
    assert "hunter2" not in found


def test_all_contradictions_are_listed(tmp_path: Path) -> None:
    changed = {"sink.topic": "bid-requests", "batching.answer_margin_ms": 40, "predictor.tls_ca_file": "x", **LOGIN}
    assert len(lines_of(tmp_path, changed)) == 4


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"kafka.bootstrap_servers": "a:9092, b.example.:9093 ,[::1]:9092,c"},
        {"predictor.addresses": ["ipv4:10.0.0.1:8500,10.0.0.2:8500", "ipv6:[::1]:8500,[::2]:8500"]},
        {**REST, "predictor.addresses": ["a:8501", "dns:///b:8501", "dns:b:8501", "[::1]:8501"]},
        {"predictor.models": ["a/b"]},
        {"predictor.addresses": ["a:8500", "dns:///b:8500", "ipv6:[::1]:8500", "[::1]:8500", "unix:/run/server"]},
        {**LOGIN, **PAIR, "kafka.security_protocol": "SASL_SSL", "kafka.ssl_check_hostname": False},
        {**PAIR, "kafka.security_protocol": "SSL", "kafka.ssl_key_password": "x"},
        TOKEN,
        {"predictor.tls": True, "predictor.tls_ca_file": "ca.pem", "predictor.tls_server_name": "x"},
        {"predictor.models": ["ctr", "cvr"], "predictor.spec_files": {"cvr": "x.yaml"}},
        {"guard.watched_calls": 0, "batching.max_batch_rows": 1},
        {"batching.max_queued_rows": 4096},
    ],
)
def test_settings_that_work(tmp_path: Path, changed: dict[str, object]) -> None:
    assert lines_of(tmp_path, changed) == []


def test_the_defaults_contradict_nothing() -> None:
    with variables({}):
        assert load_settings() == Settings()
