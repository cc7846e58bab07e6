"""`streamer run` with a fake service."""

import gc
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from streamer.commands import app
from streamer.service import Service


@pytest.fixture
def _thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("_thawed")
@pytest.mark.parametrize(("is_clean", "status"), [(True, 0), (False, 1)])
def test_imported_modules_are_excluded_from_garbage_collection(
    monkeypatch: pytest.MonkeyPatch, is_clean: bool, status: int
) -> None:
    frozen = []

    async def run(_: Service) -> bool:
        frozen.append(gc.get_freeze_count())
        return is_clean

    monkeypatch.setattr(Service, "run", run)
    assert CliRunner().invoke(app, ["run"]).exit_code == status
    assert frozen[0] > 10_000
