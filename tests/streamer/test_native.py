"""Which form of the hot loops a process uses, and that it says so."""

import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import structlog
from structlog.testing import capture_logs

from streamer import native
from streamer.diagnosis.installation import native_finding
from streamer.service import Service
from streamer.settings import Settings
from tests.docs.worked_examples import ROOT

NAME = "ctr_streamer_native"


def installed(monkeypatch: pytest.MonkeyPatch, api: int) -> ModuleType:
    """Installs an empty module with this number of the interface."""
    module = ModuleType(NAME)
    module.API, module.__version__ = api, "7.8.9"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, NAME, module)
    monkeypatch.delenv(native.SWITCH, raising=False)
    return module


def test_an_installed_module_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    module = installed(monkeypatch, native.API)
    assert native.loaded() == (module, "7.8.9")


def test_a_module_with_another_interface_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, native.API + 1)
    expected = f"unused: version 7.8.9 has interface {native.API + 1}, expected {native.API}"
    assert native.loaded() == (None, expected)


def test_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    module = installed(monkeypatch, native.API)
    monkeypatch.setenv(native.SWITCH, "off")
    assert native.loaded() == (None, "off: CTR_STREAMER_NATIVE=off")
    monkeypatch.setenv(native.SWITCH, "on")
    assert native.loaded()[0] is module


def test_a_missing_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(native.SWITCH, raising=False)
    monkeypatch.setitem(sys.modules, NAME, None)
    assert native.loaded() == (None, "not installed")


def test_a_module_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """For example the module of another platform."""
    (tmp_path / f"{NAME}.py").write_text("raise ImportError('wrong ELF class')")
    monkeypatch.delenv(native.SWITCH, raising=False)
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert native.loaded() == (None, "unused: wrong ELF class")


async def test_the_scorer_says_at_its_start_which_form_it_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "state", "not installed")
    service = Service(Settings.model_validate({"ops": {"port": 0}}), structlog.get_logger())
    with capture_logs() as lines:
        async with service.life.running():
            pass
    (line,) = [line for line in lines if line["event"] == "starting"]
    assert line["native"] == "not installed"


def test_the_doctor_advises_the_extra_where_it_is_missing() -> None:
    assert native_finding("0.2.0", is_used=True) is None
    missing, off = (native_finding(state, is_used=False) for state in ("not installed", "off: CTR_STREAMER_NATIVE=off"))
    assert missing is not None
    assert off is not None
    assert missing.severity == off.severity == "advice"
    assert "pip install 'ctr-streamer[native]'" in missing.remedy
    assert "CTR_STREAMER_NATIVE=off" in off.reason


def test_the_versions_of_the_two_distributions_are_equal() -> None:
    """The extra pins the version, because a build of another one can have another interface."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    version = project["version"]
    crate = tomllib.loads((ROOT / "native" / "Cargo.toml").read_text())["package"]
    locked = tomllib.loads((ROOT / "native" / "Cargo.lock").read_text())["package"]
    (own,) = [package["version"] for package in locked if package["name"] == crate["name"]]
    assert crate["version"] == own == version
    assert project["optional-dependencies"]["native"] == [f"{crate['name']}=={version}"]
