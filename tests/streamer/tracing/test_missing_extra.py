"""Traces without OpenTelemetry are rejected before anything starts."""

import sys

import pytest

from streamer.commands.local_files import check_files
from streamer.errors import ConfigError
from streamer.settings import Settings, load_settings


def test_a_missing_package_is_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.model_validate({"tracing": {"enabled": True}})
    check_files(settings)
    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigError) as found:
        check_files(settings)
    assert str(found.value) == "tracing.enabled: opentelemetry is not installed: pip install 'ctr-streamer[tracing]'"
    check_files(Settings())


@pytest.mark.parametrize(
    "endpoint",
    [
        "collector:4317",
        "http://collector",
        "grpc://collector:4317",
        "http://collector:99999",
        "http://collector:0",
        "http://user:secret@collector:4317",
    ],
)
def test_an_endpoint_is_a_url_with_a_port(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMER_TRACING__ENDPOINT", endpoint)
    with pytest.raises(ConfigError, match="endpoint") as found:
        load_settings(None)
    assert "secret" not in str(found.value)


@pytest.mark.parametrize("endpoint", ["http://collector:4317", "https://[::1]:4317/"])
def test_the_host_is_a_name_or_an_address(endpoint: str) -> None:
    assert Settings.model_validate({"tracing": {"endpoint": endpoint}}).tracing.endpoint == endpoint
