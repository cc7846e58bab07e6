"""The status page of a running scorer in a real browser: three widths, two colour schemes, in trouble and idle."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from sandbox.processes.model_server import ModelServerProcess
from tests.end_to_end.conftest import System, request
from tests.model_training.conftest import SPEC
from tests.monitoring.browser import browser

WIDTHS = (390, 820, 1440)
# Of a page: does it need a horizontal scrollbar; how many columns of plots does it have; its smallest text.
_OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
_COLUMNS = "getComputedStyle(document.querySelector('.plots')).gridTemplateColumns.split(' ').length"
_BACK = "getComputedStyle(document.body).backgroundColor"
_SMALLEST = "Math.min(...[...document.querySelectorAll('body *')].map(e => parseFloat(getComputedStyle(e).fontSize)))"


async def _look(url: str, folder: Path, name: str) -> dict[str, bytes]:
    """Looks at the page at each width in each scheme; returns the pictures."""
    backs, pictures = set(), {}
    async with browser(folder / f"profile-{name}") as tab:
        for width in WIDTHS:
            for scheme in ("light", "dark"):
                await tab.show(width, scheme)
                await tab.open(f"{url}?pause")
                pictures[f"{name}-{width}-{scheme}.png"] = await tab.picture()
                assert await tab.value(_OVERFLOW) == 0, f"{width} pixels"
                assert await tab.value(_COLUMNS) == {390: 1, 820: 2, 1440: 3}[width]
                assert await tab.value(_SMALLEST) >= 12
                backs.add((scheme, await tab.value(_BACK)))
        # The icon of a tab is the only resource that the browser wants beside the page.
        assert [error for error in tab.errors if "favicon" not in error] == []
    assert len(backs) == len({back for _, back in backs}) == 2, "a colour for each scheme"
    return pictures


def _review(url: str, folder: Path, name: str) -> None:
    """The pictures stay in `folder`."""
    for file, picture in asyncio.run(_look(url, folder, name)).items():
        (folder / file).write_bytes(picture)


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.parametrize("workers", [None, 2])
def test_the_page_fits_every_screen(make_system: Callable[[str], System], tmp_path: Path, workers: int | None) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(yaml.safe_dump(SPEC), encoding="utf-8")
    command = ("-m", "sandbox.model_server.simulated", "--spec", str(spec), "--workers", "4")
    changes = {} if workers is None else {"supervisor__workers": workers}
    with ModelServerProcess(command=command, log_path=tmp_path / "model-server.log") as server:
        system = make_system(server.address)
        with system.scorer(**changes) as scorer:
            url = f"http://127.0.0.1:{scorer.port}/status"
            _review(url, tmp_path, "idle")
            for number in range(25):
                system.send([request(f"{number}.{each}") for each in range(40)])
                time.sleep(0.5)
            _review(url, tmp_path, "traffic")
            assert "Every answer has all scores." in scorer.get("/status")
            server.kill()
            for number in range(12):
                system.send(
                    [request(f"lost {number}.{each}", [f"new {number}.{each}"], deadline_ms=2000) for each in range(40)]
                )
                time.sleep(1.0)
            _review(url, tmp_path, "trouble")
            page = scorer.get("/status")
            assert "priors in place of the model" in page
            assert "Open, because calls fail: 127.0.0.1" in page
            server.start()
