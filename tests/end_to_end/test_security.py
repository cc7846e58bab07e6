"""TLS, SCRAM and ACLs on a real broker, and the messages if they are wrong."""

import base64
import datetime as dt
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
import trustme
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives import serialization
from typer.testing import CliRunner

from sandbox.broker.admin import admin_client
from sandbox.broker.kafka import KafkaBroker
from sandbox.processes.model_server import ModelServerProcess
from sandbox.processes.scorer import ScorerProcess
from streamer.commands import app
from streamer.errors import ConfigError
from tests.streamer.ops.test_worker_handlers import ask

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.slow,
    # After a failed login aiokafka leaves the connection to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

HOST = "127.0.0.1"
USER, PASSWORD = "scorer", "correct horse"
MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")
TOPICS = ("bid-requests", "ctr-scores", "dead-letters")
WAIT_S = 120


@dataclass(frozen=True, slots=True)
class Secured:
    """A broker with TLS, client certificates and logins; certificate files; settings for it."""

    broker: KafkaBroker
    folder: Path
    settings: dict[str, Any]


def pem_pair(certificate: trustme.LeafCert, folder: Path, name: str) -> dict[str, str]:
    """Writes a certificate and its key; the key is in PKCS #8, the format that Kafka reads."""
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    pkcs8 = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    (folder / f"{name}.key").write_bytes(pkcs8)
    (folder / f"{name}.pem").write_bytes(chain)
    (folder / f"{name}.both").write_bytes(pkcs8 + chain)
    return {"ssl_cert_file": str(folder / f"{name}.pem"), "ssl_key_file": str(folder / f"{name}.key")}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    ours, foreign = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(folder / "ca.pem")
    foreign.cert_pem.write_to_path(folder / "foreign-ca.pem")
    pem_pair(ours.issue_cert(HOST), folder, "broker")
    pair = pem_pair(ours.issue_cert(f"{USER}.example"), folder, "client")
    yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    pem_pair(
        ours.issue_cert(f"{USER}.example", not_before=yesterday - dt.timedelta(days=9), not_after=yesterday),
        folder,
        "expired",
    )
    pem_pair(foreign.issue_cert(f"{USER}.example"), folder, "foreign")
    (folder / "password").write_text(PASSWORD + "\n")
    listener, security = "listener.name.client.", "org.apache.kafka.common.security"
    scram, plain = f"{security}.scram.ScramLoginModule", f"{security}.plain.PlainLoginModule"
    config = {
        "listener.security.protocol.map": "CLIENT:SASL_SSL,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
        f"{listener}ssl.keystore.type": "PEM",
        f"{listener}ssl.keystore.location": str(folder / "broker.both"),
        f"{listener}ssl.truststore.type": "PEM",
        f"{listener}ssl.truststore.location": str(folder / "ca.pem"),
        f"{listener}ssl.client.auth": "required",
        f"{listener}sasl.enabled.mechanisms": ",".join(MECHANISMS),
        f"{listener}scram-sha-512.sasl.jaas.config": f"{scram} required;",
        f"{listener}scram-sha-256.sasl.jaas.config": f"{scram} required;",
        f"{listener}plain.sasl.jaas.config": f'{plain} required user_{USER}="{PASSWORD}";',
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # The broker itself, and the administration of the tests on the plaintext listener.
        "super.users": "User:ANONYMOUS",
    }
    with KafkaBroker(config=config) as broker:
        for topic in (*TOPICS, "forbidden"):
            broker.create_topic(topic)
        admin = admin_client(broker.internal_servers)
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            credential = ScramCredentialInfo(mechanism, 4096)
            upsertion = UserScramCredentialUpsertion(USER, credential, PASSWORD.encode())
            for done in admin.alter_user_scram_credentials([upsertion]).values():
                done.result(WAIT_S)
        bindings = [
            AclBinding(kind, name, ResourcePatternType.LITERAL, f"User:{USER}", "*", operation, AclPermissionType.ALLOW)
            for kind, names, operations in (
                (ResourceType.TOPIC, TOPICS, (AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE)),
                (ResourceType.GROUP, ("ctr-streamer",), (AclOperation.READ,)),
            )
            for name in names
            for operation in operations
        ]
        for done in admin.create_acls(bindings).values():
            done.result(WAIT_S)
        settings = {
            "bootstrap_servers": broker.bootstrap_servers,
            "request_timeout_ms": 60_000,
            "security_protocol": "SASL_SSL",
            "ssl_ca_file": str(folder / "ca.pem"),
            **pair,
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_username": USER,
            "sasl_password_file": str(folder / "password"),
        }
        yield Secured(broker, folder, settings)


@pytest.fixture
def dlq_list(secured: Secured, tmp_path: Path) -> Callable[..., Any]:
    """Runs a command that reads a topic, with some settings changed."""

    def run(*, topic: str = "dead-letters", **changes: object) -> Any:
        config = tmp_path / "streamer.yaml"
        kafka = {name: value for name, value in (secured.settings | changes).items() if value is not None}
        config.write_text(json.dumps({"kafka": kafka, "sink": {"dead_letter_topic": topic}}))
        return CliRunner().invoke(app, ["dlq", "list", "--config", str(config)])

    return run


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_client_with_certificate_and_password_is_accepted(dlq_list: Callable[..., Any], mechanism: str) -> None:
    found = dlq_list(sasl_mechanism=mechanism)
    assert found.exit_code == 0, (found.output, found.exception)
    assert "0 dead letters" in found.output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(
            (
                {"sasl_mechanism": mechanism, "sasl_password_file": None, "sasl_password": "wrong horse"},
                f"rejects the login '{USER}' by {mechanism}",
            )
            for mechanism in MECHANISMS
        ),
        (
            {
                "sasl_mechanism": "OAUTHBEARER",
                "sasl_token_provider": f"{__name__}:valid_token",
                "sasl_username": None,
                "sasl_password_file": None,
            },
            "rejects the login by OAUTHBEARER",
        ),
        ({"ssl_ca_file": "foreign-ca.pem"}, "its certificate is not accepted: .*(self-signed|local issuer)"),
        ({"ssl_cert_file": "expired.pem", "ssl_key_file": "expired.key"}, "it does not accept ours, .*expired.pem"),
        ({"ssl_cert_file": "foreign.pem", "ssl_key_file": "foreign.key"}, "it does not accept ours, .*foreign.pem"),
        (
            {"ssl_cert_file": None, "ssl_key_file": None},
            "it asks for a certificate, and kafka.ssl_cert_file names none",
        ),
        ({"ssl_ca_file": "nowhere.pem"}, "kafka.ssl_ca_file: .*nowhere.pem: cannot be used"),
        (
            {"ssl_key_file": "broker.key"},
            "kafka.ssl_cert_file: .*client.pem with .*broker.key: cannot be used: .*MISMATCH",
        ),
        ({"sasl_password_file": "nowhere"}, "kafka.sasl_password_file: .*nowhere cannot be read"),
        ({"topic": "forbidden"}, f"topic forbidden is forbidden to '{USER}'"),
    ],
)
def test_a_client_without_them_prints_one_line(
    secured: Secured, dlq_list: Callable[..., Any], changes: dict[str, Any], message: str
) -> None:
    in_folder = {
        name: str(secured.folder / value) if name.endswith("_file") and value is not None else value
        for name, value in changes.items()
    }
    refused = dlq_list(**in_folder)
    with pytest.raises(ConfigError, match=message) as error:
        raise refused.exception
    assert "\n" not in str(error.value)
    assert PASSWORD not in str(error.value)
    assert "wrong horse" not in str(error.value)


TOKEN, KEY_PASSWORD = "open sesame", "a key for the key"
ENDS_S = 120


@pytest.fixture
def scorer(secured: Secured, simulated_server: ModelServerProcess, tmp_path: Path) -> Callable[..., ScorerProcess]:
    """A scorer with debug logs and secrets in its environment; `changes` are settings."""

    def make(**changes: object) -> ScorerProcess:
        kafka = {f"kafka.{name}": value for name, value in secured.settings.items() if name != "sasl_password_file"}
        settings = {
            **kafka,
            "kafka.sasl_password": PASSWORD,
            "kafka.ssl_key_password": KEY_PASSWORD,
            "kafka.request_timeout_ms": 10_000,
            "predictor.addresses": [simulated_server.address],
            "ops.token": TOKEN,
            "service.log_level": "debug",
            **{name.replace("__", "."): value for name, value in changes.items()},
        }
        return ScorerProcess(settings, tmp_path / "scorer.log")

    return make


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kafka__sasl_password": "wrong horse"}, f"rejects the login '{USER}' by SCRAM-SHA-512"),
        ({"kafka__ssl_cert_file": "expired.pem", "kafka__ssl_key_file": "expired.key"}, "it does not accept ours, "),
        ({"kafka__ssl_cert_file": "foreign.pem", "kafka__ssl_key_file": "foreign.key"}, "it does not accept ours, "),
        ({"source__topic": "forbidden"}, f"topic forbidden is forbidden to '{USER}'"),
        ({"sink__topic": "forbidden"}, f"topic forbidden is forbidden to '{USER}'"),
        ({"kafka__group_id": "of-others"}, f"group of-others is forbidden to '{USER}'"),
        (
            {"delivery__guarantee": "exactly_once"},
            f"transactional ids ctr-streamer-… are forbidden to '{USER}'",
        ),
    ],
)
def test_a_rejected_scorer_logs_the_reason_in_one_line_and_exits(
    secured: Secured, scorer: Callable[..., ScorerProcess], changes: dict[str, str], message: str
) -> None:
    in_folder = {name: str(secured.folder / v) if name.endswith("_file") else v for name, v in changes.items()}
    refused = scorer(**in_folder)
    refused.spawn()
    try:
        assert refused.wait(ENDS_S) == 2, refused.log_tail()
    finally:
        refused.kill()
    log = refused.log_path.read_text()
    (said,) = [line for line in log.splitlines() if line.startswith("streamer: ")]
    assert message in said
    assert "Traceback" not in log, log
    for secret in (PASSWORD, "wrong horse", TOKEN, KEY_PASSWORD):
        assert secret not in log, log


async def test_secrets_are_not_visible(scorer: Callable[..., ScorerProcess]) -> None:
    """Two workers and a standby with debug logs: no page, log or process list has the password."""
    with scorer(supervisor__workers=2, kafka__sasl_mechanism="PLAIN") as running:
        found = {}
        for path in ("/healthz", "/readyz", "/metrics", "/status", "/config", "/model"):
            status, found[path] = await ask(f"127.0.0.1:{running.port}", path, token=TOKEN)
            assert status == 200, path
        supervisor = psutil.Process(running.pid)
        workers = supervisor.children(recursive=True)
        assert len(workers) == 3, "two and a standby"
        found["process list"] = str([one.cmdline() for one in (supervisor, *workers)])
        assert running.stop() == 0
    found["log"] = running.log_path.read_text()
    for where, text in found.items():
        for secret in (PASSWORD, TOKEN, KEY_PASSWORD):
            assert secret not in text, f"{where}: {text}"
    kafka = json.loads(found["/config"])[1]["config"]["kafka"]
    assert kafka["sasl_username"] == USER
    assert kafka["sasl_password"] == "**********"  # noqa: S105  what stands there instead


def token(*, expires_in_s: int) -> str:
    """A JSON web token without a signature, which Kafka's validator for development accepts."""
    now = int(time.time())
    parts = {"alg": "none"}, {"sub": USER, "iat": now - 7200, "exp": now + expires_in_s}
    encoded = (base64.urlsafe_b64encode(orjson.dumps(part)).rstrip(b"=").decode() for part in parts)
    return ".".join(encoded) + "."


TOKEN_HEAD = token(expires_in_s=0).partition(".")[0]


def valid_token() -> str:
    return token(expires_in_s=3600)


def stale_token() -> str:
    return token(expires_in_s=-3600)


def test_a_token_is_accepted_and_an_expired_one_is_rejected(
    simulated_server: ModelServerProcess, tmp_path: Path
) -> None:
    listener, login = "listener.name.client.", "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule"
    config = {
        "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
        f"{listener}sasl.enabled.mechanisms": "OAUTHBEARER",
        f"{listener}oauthbearer.sasl.jaas.config": f'{login} required unsecuredLoginStringClaim_sub="broker";',
    }
    with KafkaBroker(config=config) as broker:
        for topic in TOPICS:
            broker.create_topic(topic)

        common = {
            "bootstrap_servers": broker.bootstrap_servers,
            "request_timeout_ms": 60_000,
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "OAUTHBEARER",
        }

        def dlq_list(provider: Callable[[], str]) -> Any:
            kafka = {**common, "sasl_token_provider": f"{provider.__module__}:{provider.__name__}"}
            path = tmp_path / "streamer.yaml"
            path.write_text(json.dumps({"kafka": kafka}))
            return CliRunner().invoke(app, ["dlq", "list", "--config", str(path)])

        found = dlq_list(valid_token)
        assert found.exit_code == 0, (found.output, found.exception)
        assert "0 dead letters" in found.output
        refused = dlq_list(stale_token)
        with pytest.raises(ConfigError, match=r"rejects the login .*by OAUTHBEARER") as error:
            raise refused.exception
        assert "\n" not in str(error.value)
        assert TOKEN_HEAD not in str(error.value)

        settings = {
            **{f"kafka.{name}": value for name, value in common.items()},
            "kafka.sasl_token_provider": f"{__name__}:valid_token",
            "predictor.addresses": [simulated_server.address],
            "service.log_level": "debug",
        }
        with ScorerProcess(settings, tmp_path / "scorer.log") as running:
            assert running.stop() == 0
        assert TOKEN_HEAD not in running.log_path.read_text()
