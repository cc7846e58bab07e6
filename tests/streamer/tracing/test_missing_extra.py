"""Traces without OpenTelemetry are rejected before anything starts."""

import sys

import pytest

from streamer.commands.local_files import check_files
from streamer.errors import ConfigError
from streamer.settings import Settings


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


@pytest.mark.parametrize("endpoint", ["collector:4317", "http://collector", "grpc://collector:4317"])
def test_an_endpoint_is_a_url_with_a_port(endpoint: str) -> None:
    with pytest.raises(ValueError, match="endpoint"):
        Settings.model_validate({"tracing": {"endpoint": endpoint}})
