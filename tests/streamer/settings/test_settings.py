import os
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from streamer.errors import ConfigError
from streamer.settings import Settings, load_settings
from streamer.settings.names import ENVIRONMENT_PREFIX, REMOVED, RENAMED
from streamer.settings.table import descriptions, settings_table

CONFIG = Path(__file__).parents[3] / "configs/streamer.yaml"
SECRETS = {"password", "sasl_password", "ssl_key_password", "token", "url"}
FIELDS = [(section, name) for section, values in Settings() for name in type(values).model_fields]


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(ENVIRONMENT_PREFIX):
            monkeypatch.delenv(name)


def load(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    return load_settings(path)


def rejected(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    return str(caught.value).splitlines()


def test_defaults_without_a_file() -> None:
    settings = load_settings()
    assert settings.source.budget_ms == 30.0
    assert settings.predictor.addresses == ("localhost:8500",)


def test_the_default_port_is_that_of_the_protocol(tmp_path: Path) -> None:
    assert load(tmp_path, "predictor: {protocol: rest}").predictor.addresses == ("localhost:8501",)
    assert load(tmp_path, "predictor: {protocol: rest, addresses: ['a:1']}").predictor.addresses == ("a:1",)


def test_the_shipped_file_is_valid() -> None:
    assert load_settings(CONFIG).sink.topic == "ctr-scores"


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "# nothing\n") == Settings()


def test_the_environment_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMER_KAFKA__GROUP_ID", "from-environment")
    monkeypatch.setenv("STREAMER_PREDICTOR__ADDRESSES", '["a:1", "b:2"]')
    settings = load(tmp_path, "kafka: {group_id: from-file, client_id: from-file}")
    assert settings.kafka.group_id == "from-environment"
    assert settings.kafka.client_id == "from-file"
    assert settings.predictor.addresses == ("a:1", "b:2")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("kafka: {group: x}", "kafka.group: unknown setting; did you mean 'group_id'?"),
        ("batching: {max_batch_row: 3}", "batching.max_batch_row: unknown setting; did you mean 'max_batch_rows'?"),
        ("batchin: {}", "batchin: unknown setting; did you mean 'batching'?"),
        ("offsets: {zzz: 1}", "offsets.zzz: unknown setting; known here: commit_interval_ms, max_uncommitted_records"),
        ("1: {}", "1: unknown setting"),
        ("source: {budget_ms: 0}", "source.budget_ms: Input should be greater than 0 (got 0)"),
        ("source: {start_at: middle}", "source.start_at: Input should be 'earliest' or 'latest' (got 'middle')"),
        ("source: 3", "source: Input should be a valid dictionary"),
        ("source:", "source: Input should be a valid dictionary"),
        ("predictor: {addresses: []}", "predictor.addresses: "),
        ("kafka: {ssl_cert_file: x}", "kafka: ssl_cert_file and ssl_key_file go together"),
        (
            "kafka: {session_timeout_ms: 6000, heartbeat_interval_ms: 2001}",
            "kafka: heartbeat_interval_ms is 2001, at most a third of session_timeout_ms (2000) is allowed",
        ),
        ("predictor: {tls_key_file: x}", "predictor: tls_cert_file and tls_key_file go together"),
        (
            "kafka: {security_protocol: SASL_SSL}",
            "kafka: sasl_mechanism SCRAM-SHA-512 needs sasl_username and a password",
        ),
        (
            "kafka: {security_protocol: SASL_SSL, sasl_mechanism: OAUTHBEARER}",
            "kafka: sasl_mechanism OAUTHBEARER needs sasl_token_provider",
        ),
        ("predictor: {models: [a, b, a]}", "predictor.models: a model occurs twice"),
        ("predictor: {spec_files: x}", "predictor.spec_files: Input should be a valid dictionary (got 'x')"),
        ("predictor: {spec_files: {ctr: 1}}", "predictor.spec_files.ctr: Input is not a valid path"),
        ("predictor: {labels: {other: stable}}", "predictor: labels: other is not among models"),
        ("predictor: {addresses: [1]}", "predictor.addresses.0: Input should be a valid string (got 1)"),
    ],
)
def test_an_error_is_one_line_with_its_setting(tmp_path: Path, text: str, line: str) -> None:
    assert rejected(tmp_path, text)[0].startswith(line)


_MAPPINGS = {("predictor", "spec_files"), ("predictor", "labels")}


@pytest.mark.parametrize(("section", "name"), [field for field in FIELDS if field not in _MAPPINGS])
def test_a_wrong_type_is_rejected_with_the_name_of_the_setting(tmp_path: Path, section: str, name: str) -> None:
    (only,) = rejected(tmp_path, f"{section}: {{{name}: {{wrong: type}}}}")
    assert only.startswith(f"{section}.{name}: ")
    if name in SECRETS:
        assert "wrong" not in only
    else:
        assert only.endswith("(got {'wrong': 'type'})")


def test_errors_do_not_repeat_a_secret(tmp_path: Path) -> None:
    text = (
        "kafka: {sasl_password: hunter2, sasl_password_file: x, security_protocol: SASL_SSL}\nops: {token: [hunter2]}"
    )
    assert all("hunter2" not in line for line in rejected(tmp_path, text))
    text = """
        kafka: {security_protocol: SASL_SSL, sasl_username: x, sasl_password: hunter2, ssl_cert_file: x,
                ssl_key_file: x, ssl_key_password: hunter2}
        ops: {token: hunter2}"""
    settings = load(tmp_path, text)
    assert "hunter2" not in repr(settings) + str(settings.model_dump(mode="json"))
    assert settings.kafka.sasl_password is not None
    assert settings.kafka.sasl_password.get_secret_value() == "hunter2"


def test_all_errors_are_listed(tmp_path: Path) -> None:
    assert len(rejected(tmp_path, "source: {budget_ms: 0}\nkafka: {group: x}\nsnk: {}")) == 3


@pytest.mark.parametrize("text", ["[1]", "3", "text"])
def test_a_file_that_is_not_a_mapping(tmp_path: Path, text: str) -> None:
    (only,) = rejected(tmp_path, text)
    assert "expected a mapping of sections" in only


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        load_settings(tmp_path / "none.yaml")
    for text in (
        "a: [",
        "kafka: {group_id: 2026-13-45}",  # an impossible date
        "kafka: {group_id: !!bool x}",
        "kafka: {group_id: !!timestamp x}",
        "[" * 400,
        "kafka: {group_id: a}\nkafka: {client_id: b}",
        "kafka: {group_id: a, group_id: b}",
    ):
        (only,) = rejected(tmp_path, text)
        assert "settings.yaml: cannot be read: " in only
    (tmp_path / "latin.yaml").write_bytes("kafka: {group_id: Käufer}".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml: cannot be read: .*utf-8"):
        load_settings(tmp_path / "latin.yaml")


def test_settings_are_frozen() -> None:
    settings = Settings()
    for section, values in settings:
        assert isinstance(values, BaseModel)
        with pytest.raises(ValidationError, match="frozen"):
            setattr(settings, section, values)
        for name in type(values).model_fields:
            with pytest.raises(ValidationError, match="frozen"):
                setattr(values, name, getattr(values, name))


_UNITS = {"_ms": "milliseconds", "_s": "seconds", "_bytes": "bytes", "_rows": "rows", "_records": "records"}


@pytest.mark.parametrize(("section", "name"), FIELDS)
def test_every_setting_has_a_description_with_its_unit(section: str, name: str) -> None:
    description = descriptions(type(getattr(Settings(), section)))[name]
    assert description.endswith((".", "`")), "a sentence"
    for suffix, unit in _UNITS.items():
        if name.endswith(suffix):
            assert unit in description.lower()


def test_a_renamed_setting_exists_under_its_new_name_only() -> None:
    names = {f"{section}.{name}" for section, name in FIELDS}
    assert set(RENAMED.values()) <= names
    assert not RENAMED.keys() & names


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_renamed_setting_is_rejected_with_its_new_name(tmp_path: Path, old: str, new: str) -> None:
    section, name = old.split(".")
    assert rejected(tmp_path, f"{section}: {{{name}: 1}}") == [f"{old}: renamed in 0.2.0 to {new!r}"]


@pytest.mark.parametrize(("old", "why"), REMOVED.items())
def test_a_removed_setting_is_rejected_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, why: str
) -> None:
    section, name = old.split(".")
    assert rejected(tmp_path, f"{section}: {{{name}: 1}}") == [f"{old}: removed in 0.2.0: {why}"]
    variable = "STREAMER_" + old.replace(".", "__").upper()
    monkeypatch.setenv(variable, "1")
    with pytest.raises(ConfigError, match=f"environment variable {variable}: removed in 0.2.0: {why}"):
        load_settings()


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_renamed_variable_is_rejected_with_its_new_name(monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    variable = "STREAMER_" + old.replace(".", "__").upper()
    monkeypatch.setenv(variable, "1")
    with pytest.raises(ConfigError) as caught:
        load_settings()
    successor = "STREAMER_" + new.replace(".", "__").upper()
    assert str(caught.value) == f"environment variable {variable}: renamed in 0.2.0 to {successor}"


def test_a_renamed_setting_in_the_variable_of_a_section_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMER_BATCHING", '{"max_in_flight_batches": 3}')
    with pytest.raises(ConfigError, match=r"STREAMER_BATCHING: batching.max_in_flight_batches: renamed in 0.2.0 to "):
        load_settings()


def test_the_documented_table_is_the_codes_own() -> None:
    documented = (CONFIG.parents[1] / "docs/settings.md").read_text(encoding="utf-8")
    assert documented == settings_table(), "streamer settings > docs/settings.md"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "kafka:\n  sasl_password: hunter2\n  sasl_password: hunter3\n",
            "line 3, column 3: 'sasl_password' occurs twice",
        ),
        ("kafka:\n  sasl_password: hunter2: x\n", "line 2, column 25: mapping values are not allowed here"),
        ('ops:\n  token: "hunter2\n', "line 3, column 1: found unexpected end of stream"),
    ],
)
def test_a_damaged_file_is_named_by_its_place_and_not_by_its_secret(tmp_path: Path, text: str, fault: str) -> None:
    (line,) = rejected(tmp_path, text)
    assert line.endswith(f"settings.yaml: cannot be read: {fault}")
    assert "hunter" not in line


def test_a_merged_key_that_its_mapping_overrides_does_not_occur_twice(tmp_path: Path) -> None:
    shared = "predictor:\n  labels: &two {<<: &one {ctr: a}, ctr: b}\n"
    assert load(tmp_path, shared).predictor.labels == {"ctr": "b"}
    merged = load(tmp_path, f"{shared}  spec_files: {{<<: *two}}\n")
    assert merged.predictor.spec_files == {"ctr": Path("b")}


def test_a_url_with_a_password_is_rejected_without_its_text(tmp_path: Path) -> None:
    (only,) = rejected(tmp_path, "registry: {url: 'http://u:hush@here:8081'}")
    assert only.startswith("registry.url: ")
    assert "hush" not in only
    (only,) = rejected(tmp_path, "registry: {password: hush}")
    assert only == "registry: username and password go together"
