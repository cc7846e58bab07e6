"""The page of the model switch has the diagram and the table of the code."""

import runpy
from pathlib import Path

import pytest

from streamer.rollout import events

SCRIPT = Path(__file__).parents[3] / "docs" / "scripts" / "draw_model_switch.py"


def test_the_page_is_as_the_script_writes_it() -> None:
    names = runpy.run_path(str(SCRIPT))
    assert names["PAGE"].read_text(encoding="utf-8") == names["page"](), f"run {SCRIPT.name}"


@pytest.mark.parametrize("event", [event.__name__ for event in events.Event.__args__])
def test_the_page_explains_each_event(event: str) -> None:
    page: str = runpy.run_path(str(SCRIPT))["PAGE"].read_text(encoding="utf-8")
    explained = [line for line in page.splitlines() if line.startswith("| `") and line.count("|") == 4]
    assert any(f"`{event}`" in line.split("|")[1] for line in explained)
