"""`streamer check-config`: the files that the settings name, and all probes of `--live`."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import trustme
import yaml
from typer.testing import CliRunner

from sandbox.host.ports import free_ports
from streamer.commands import app
from streamer.commands.local_files import check_files
from streamer.errors import ConfigError
from streamer.settings import load_settings
from tests.streamer.settings.test_environment import variables
from tests.streamer.specs import SMALL


def write(tmp_path: Path, **sections: object) -> str:
    path = tmp_path / "streamer.yaml"
    path.write_text(yaml.safe_dump(sections))
    return str(path)


def failures(tmp_path: Path, **sections: object) -> list[str]:
    """The lines of `check_files`."""
    with variables({}):
        settings = load_settings(Path(write(tmp_path, **sections)))
    try:
        check_files(settings)
    except ConfigError as error:
        return str(error).splitlines()
    return []


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Certificates, a spec, and files with nothing useful."""
    ca = trustme.CA()
    certificate, other = ca.issue_cert("scorer.example"), ca.issue_cert("other.example")
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    other.private_key_pem.write_to_path(tmp_path / "other-key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(SMALL))
    (tmp_path / "negative.yaml").write_text(yaml.safe_dump({**SMALL, "embedding_dim": -1}))
    (tmp_path / "tag.yaml").write_text("name: !!timestamp x")
    (tmp_path / "latin.yaml").write_bytes("name: ä".encode("latin-1"))
    (tmp_path / "empty").touch()
    (tmp_path / "password").write_bytes(b"\xff")
    return tmp_path


SSL = {"security_protocol": "SSL"}
LOGIN = {"security_protocol": "SASL_PLAINTEXT", "sasl_username": "x"}
TOKEN = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "OAUTHBEARER"}


@pytest.mark.parametrize(
    ("section", "values", "line"),
    [
        ("kafka", {**SSL, "ssl_ca_file": "none"}, "kafka.ssl_ca_file: {}/none: cannot be used: "),
        ("kafka", {**SSL, "ssl_ca_file": "empty"}, "kafka.ssl_ca_file: {}/empty: cannot be used: "),
        ("kafka", {**SSL, "ssl_ca_file": "a\0b"}, "kafka.ssl_ca_file: "),
        (
            "kafka",
            {**SSL, "ssl_cert_file": "cert.pem", "ssl_key_file": "other-key.pem"},
            "kafka.ssl_cert_file: {0}/cert.pem with {0}/other-key.pem: cannot be used: ",
        ),
        ("kafka", {**LOGIN, "sasl_password_file": "none"}, "kafka.sasl_password_file: {}/none cannot be read: "),
        (
            "kafka",
            {**LOGIN, "sasl_password_file": "password"},
            "kafka.sasl_password_file: {}/password cannot be read: ",
        ),
        (
            "kafka",
            {**TOKEN, "sasl_token_provider": "os:none"},
            "kafka.sasl_token_provider: 'os:none' cannot be loaded: ",
        ),
        ("kafka", {**TOKEN, "sasl_token_provider": "os:sep"}, "kafka.sasl_token_provider: 'os:sep' is no function"),
        ("predictor", {"tls": True, "tls_ca_file": "none"}, "predictor.tls_ca_file: {}/none: cannot be used: "),
        ("predictor", {"tls": True, "tls_ca_file": "key.pem"}, "predictor.tls_ca_file: {}/key.pem: cannot be used: "),
        (
            "predictor",
            {"tls": True, "tls_cert_file": "cert.pem", "tls_key_file": "other-key.pem"},
            "predictor.tls_cert_file: {0}/cert.pem with {0}/other-key.pem: cannot be used: ",
        ),
        ("predictor", {"spec_files": {"ctr": "none"}}, "predictor.spec_files.ctr: {}/none: cannot be read: "),
        ("predictor", {"spec_files": {"ctr": "."}}, "predictor.spec_files.ctr: {}: cannot be read: "),
        (
            "predictor",
            {"spec_files": {"ctr": "latin.yaml"}},
            "predictor.spec_files.ctr: {}/latin.yaml: cannot be read: ",
        ),
        ("predictor", {"spec_files": {"ctr": "tag.yaml"}}, "predictor.spec_files.ctr: {}/tag.yaml: cannot be read: "),
        ("predictor", {"spec_files": {"ctr": "negative.yaml"}}, "predictor.spec_files.ctr: {}/negative.yaml: "),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_setting(
    files: Path, section: str, values: dict[str, object], line: str
) -> None:
    (found,) = failures(files, **{section: _absolute(files, values)})
    assert found.startswith(line.format(files))


def test_settings_are_json_without_secrets(tmp_path: Path) -> None:
    config = write(tmp_path, kafka={"client_id": "x"}, ops={"token": "hush"})
    with variables({}):
        found = CliRunner().invoke(app, ["check-config", "--json", "--config", config])
    content = json.loads(found.stdout)
    assert (content["failures"], content["found"]) == ([], [])
    assert content["settings"]["kafka"]["client_id"] == "x"
    assert "hush" not in found.stdout


def test_files_that_can_be_used(files: Path) -> None:
    kafka = {**SSL, "ssl_ca_file": "ca.pem", "ssl_cert_file": "cert.pem", "ssl_key_file": "key.pem"}
    predictor = {"tls": True, "tls_ca_file": "ca.pem", "tls_cert_file": "cert.pem", "tls_key_file": "key.pem"}
    spec = {"spec_files": {"ctr": str(files / "spec.yaml")}}
    assert failures(files, kafka=_absolute(files, kafka), predictor={**_absolute(files, predictor), **spec}) == []


def _absolute(folder: Path, values: Mapping[str, object]) -> dict[str, object]:
    files = {name: str(folder / str(value)) for name, value in values.items() if name.endswith("_file")}
    if isinstance(specs := values.get("spec_files"), dict):
        files["spec_files"] = {model: str(folder / path) for model, path in specs.items()}  # type: ignore[assignment]
    return {**values, **files}


@pytest.mark.parametrize(("command", "workers"), [("check-config", None), ("run", None), ("run", 2)])
def test_each_wrong_file_is_a_line_before_anything_starts(tmp_path: Path, command: str, workers: int | None) -> None:
    config = write(
        tmp_path,
        kafka={**SSL, "ssl_ca_file": str(tmp_path / "none.pem")},
        predictor={"spec_files": {"ctr": str(tmp_path / "none.yaml")}},
        supervisor={"workers": workers},
    )
    with variables({}):
        found = CliRunner().invoke(app, [command, "--config", config])
    assert isinstance(found.exception, ConfigError)
    assert [line.split(":")[0] for line in str(found.exception).splitlines()] == [
        "kafka.ssl_ca_file",
        "predictor.spec_files.ctr",
    ]
    assert not found.stdout


def test_all_probes_of_live_run_and_the_failures_come_first(tmp_path: Path) -> None:
    brokers, servers, registry = free_ports(3)
    config = write(
        tmp_path,
        kafka={"bootstrap_servers": f"127.0.0.1:{brokers}", "request_timeout_ms": 500},
        predictor={
            "addresses": [f"127.0.0.1:{servers}"],
            "models": ["ctr", "cvr"],
            "spec_files": {"cvr": str(tmp_path / "none.yaml")},
            "control_timeout_ms": 500,
        },
        registry={"url": f"http://127.0.0.1:{registry}"},
    )
    with variables({}):
        found = CliRunner().invoke(app, ["check-config", "--live", "--config", config])
    assert found.exit_code == 2
    assert not found.stdout
    lines = found.stderr.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("streamer: predictor.spec_files.cvr: ")
    assert f"no broker answers at 127.0.0.1:{brokers}" in lines[1]
    assert lines[2].startswith(f"streamer: registry.url: no answer from http://127.0.0.1:{registry}: ")
    assert lines[2].endswith("; start it, or correct registry.url")
    assert lines[3].startswith("streamer: predictor: UNAVAILABLE: ")
