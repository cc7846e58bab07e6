"""Environment variables: which of them are settings, and what a wrong one is told."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from streamer.errors import ConfigError
from streamer.settings import Settings, load_settings
from streamer.settings.names import ENVIRONMENT_PREFIX, variable_of


@contextmanager
def variables(environment: Mapping[str, str]) -> Iterator[None]:
    """These are the only variables of settings."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in [name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX)]:
            monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield


def load(environment: Mapping[str, str], path: Path | None = None) -> Settings:
    with variables(environment):
        return load_settings(path)


def rejected(environment: Mapping[str, str]) -> str:
    """The only line of the error."""
    with pytest.raises(ConfigError) as caught:
        load(environment)
    (line,) = str(caught.value).splitlines()
    return line


OF_SERVICES = {
    # Services `streamer`, `streamer-kafka` and `streamer-ops` of one namespace.
    "STREAMER_SERVICE_HOST": "10.96.0.12",
    "STREAMER_SERVICE_PORT": "9100",
    "STREAMER_SERVICE_PORT_METRICS": "9100",
    "STREAMER_PORT": "tcp://10.96.0.12:9100",
    "STREAMER_PORT_9100_TCP": "tcp://10.96.0.12:9100",
    "STREAMER_PORT_9100_TCP_ADDR": "10.96.0.12",
    "STREAMER_PORT_9100_TCP_PORT": "9100",
    "STREAMER_PORT_9100_TCP_PROTO": "tcp",
    "STREAMER_KAFKA_SERVICE_HOST": "10.96.0.13",
    "STREAMER_KAFKA_SERVICE_PORT_CLIENTS": "9092",
    "STREAMER_KAFKA_PORT": "tcp://10.96.0.13:9092",
    "STREAMER_KAFKA_PORT_9092_TCP_ADDR": "10.96.0.13",
    "STREAMER_OPS_PORT": "tcp://10.96.0.14:9100",
    "STREAMER_OPS__SERVICE_HOST": "10.96.0.15",
    # Of containers and of other programs.
    "STREAMER_NAME": "/scorer/streamer",
    "STREAMER_VERSION": "1.4",
    "STREAMER_HOME": "/opt/streamer",
    "STREAMER_ZZZ": "x",
    "STREAMER_": "",
}


def test_variables_that_cannot_be_meant_as_settings_are_ignored() -> None:
    assert load(OF_SERVICES) == load({})


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("STREAMER_KAFKA_BOOTSTRAP_SERVERS", "x", "unknown setting; did you mean STREAMER_KAFKA__BOOTSTRAP_SERVERS?"),
        ("STREAMER_KAFKA_BOOTSTRAP_SERVER", "x", "unknown setting; did you mean STREAMER_KAFKA__BOOTSTRAP_SERVERS?"),
        ("STREAMER__KAFKA__GROUP_ID", "x", "unknown setting; did you mean STREAMER_KAFKA__GROUP_ID?"),
        ("STREAMER_KAFKAA__GROUP_ID", "x", "unknown setting; did you mean STREAMER_KAFKA__GROUP_ID?"),
        ("STREAMER_KAFKA__GROUPID", "x", "unknown setting; did you mean STREAMER_KAFKA__GROUP_ID?"),
        ("STREAMER_OPS_PORT", "9100", "unknown setting; did you mean STREAMER_OPS__PORT?"),
        ("STREAMER_LOG_LEVEL", "debug", "unknown setting; did you mean STREAMER_SERVICE__LOG_LEVEL?"),
        ("STREAMER_ZZZ__A", "x", "unknown section 'zzz'; known here: kafka, source"),
        ("STREAMER_KAFKA__GROUP_ID__X", "x", "kafka.group_id is one value, in STREAMER_KAFKA__GROUP_ID"),
        ("STREAMER_SOURCE__BUDGET_MS", "soon", "source.budget_ms: Input should be a valid number"),
        ("STREAMER_SUPERVISOR__WORKERS", "", "supervisor.workers: Input should be a valid integer"),
        (
            "STREAMER_PREDICTOR__ADDRESSES",
            '["a:1", 1]',
            "predictor.addresses.1: Input should be a valid string (got 1)",
        ),
        ("STREAMER_PREDICTOR__ADDRESSES", "[a", "predictor.addresses: Input should be a valid tuple (got '[a')"),
        ("STREAMER_PREDICTOR__ADDRESSES", "", "predictor.addresses: Input should be a valid tuple (got '')"),
        ("STREAMER_PREDICTOR__LABELS", "x", "predictor.labels: Input should be a valid dictionary (got 'x')"),
        ("STREAMER_KAFKA", "hunter2", "kafka: Input should be a valid dictionary or instance of KafkaSettings"),
        ("STREAMER_KAFKA", '{"group": 1}', "kafka.group: unknown setting; did you mean 'group_id'?"),
    ],
)
def test_a_wrong_variable_is_named_with_the_right_spelling(name: str, value: str, line: str) -> None:
    found = rejected({name: value})
    assert found.startswith(f"environment variable {name}: {line}")
    assert "hunter2" not in found


@pytest.mark.parametrize("text", ["host:8500,other:8500", " host:8500 , other:8500", '["host:8500", "other:8500"]'])
def test_a_list_is_json_or_separated_by_commas(text: str) -> None:
    settings = load({"STREAMER_PREDICTOR__ADDRESSES": text})
    assert settings.predictor.addresses == ("host:8500", "other:8500")


def test_a_mapping_is_json_or_one_variable_for_each_key() -> None:
    for environment in (
        {"STREAMER_PREDICTOR__LABELS": '{"ctr": "stable"}'},
        {"STREAMER_PREDICTOR__LABELS__CTR": "stable"},
        {"STREAMER_PREDICTOR": '{"labels": {"ctr": "stable"}}'},
    ):
        assert load(environment).predictor.labels == {"ctr": "stable"}


def test_a_value_of_the_file_is_not_blamed_on_a_variable(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("kafka: {request_timeout_ms: x}")
    with pytest.raises(ConfigError, match=r"^kafka.request_timeout_ms: Input should be a valid integer"):
        load({"STREAMER_KAFKA": '{"group_id": "x"}', "STREAMER_KAFKA__CLIENT_ID": "x"}, path)


SETTINGS = [f"{section}.{name}" for section, values in Settings() for name in type(values).model_fields]
VALUES = st.one_of(
    st.sampled_from(
        ["", "0", "-1", "1e400", "nan", "null", "true", "[]", "[1]", "{}", '{"a": [1]}', "a,b", "[" * 2000]
    ),
    st.text(st.characters(exclude_characters="\0", exclude_categories=()), max_size=20),
)
SPELLINGS = st.sampled_from(["", "_", "__", "__X", "_SERVICE_HOST", "_PORT", "S", "\n", "\udcff"])
VARIABLES = st.dictionaries(
    st.builds(
        lambda setting, joint, end: variable_of(setting).replace("__", joint) + end,
        st.sampled_from([*SETTINGS, *(name.split(".")[0] for name in SETTINGS), "unknown.setting", ""]),
        st.sampled_from(["__", "__", "_", "___"]),
        st.one_of(st.just(""), SPELLINGS),
    ),
    VALUES,
    max_size=4,
)
NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([2**31, 2**63, 10**400, -1, 0]))
YAML_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(st.characters(codec="utf-8"), max_size=8), st.dates()),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=4), inner, max_size=2)),
    max_leaves=4,
)
FILES = st.dictionaries(
    st.sampled_from([*Settings.model_fields, "_env_file", "_cli_parse_args", "self", "a\nb"]),
    st.one_of(YAML_VALUES, st.dictionaries(st.sampled_from([s.split(".")[1] for s in SETTINGS]), YAML_VALUES)),
    max_size=3,
)


@profile(max_examples=60)
@given(environment=VARIABLES, content=st.one_of(FILES.map(yaml.safe_dump), st.text(max_size=30)))
def test_whatever_is_set_the_outcome_is_settings_or_lines(
    tmp_path_factory: pytest.TempPathFactory, environment: Mapping[str, str], content: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    path.write_text(content, encoding="utf-8", errors="replace")
    try:
        load(
            {name.replace("\0", ""): value.encode("utf-8", "replace").decode() for name, value in environment.items()},
            path,
        )
    except ConfigError as error:
        lines = str(error).splitlines()
        assert lines
        assert all(line and line.isprintable() for line in lines)
