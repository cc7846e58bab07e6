"""Commands name the proxy variable that diverts the calls to a model server."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamer.commands import app

PROXIED = "model server models.invalid:8500: calls go through the proxy of https_proxy"


@pytest.fixture
def behind_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("grpc_proxy", "no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://user:secret@127.0.0.1:9")
    monkeypatch.setenv("STREAMER_PREDICTOR__ADDRESSES", '["127.0.0.1:9", "models.invalid:8500"]')
    monkeypatch.setenv("STREAMER_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:9")


@pytest.mark.usefixtures("behind_proxy")
def test_the_live_check_names_variable_and_server() -> None:
    shown = CliRunner().invoke(app, ["check-config", "--live"])
    assert PROXIED in shown.output.splitlines()
    assert "model server 127.0.0.1:9" not in shown.output
    assert "secret" not in shown.output


@pytest.mark.usefixtures("behind_proxy")
def test_a_failed_call_names_variable_and_server(tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text("{}")
    failed = CliRunner().invoke(app, ["explain", str(tmp_path / "request.json")])
    assert str(failed.exception).endswith(f"; {PROXIED}")
    assert "secret" not in str(failed.exception)
