"""The README's "Your own data in ten minutes" works as it is written."""

import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from sandbox.host.ports import free_ports
from tests.docs.shells import Shells, why_no_answer, why_not_ready
from tests.docs.worked_examples import ROOT

PAGE = ROOT / "README.md"
HEADING = "Your own data in ten minutes"
_SECTION = re.compile(rf"^## {HEADING}\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^    ((?:python|streamer|model-training) .*)$", re.MULTILINE)
_SETTINGS = re.compile(r"`([^`\n]+)`:\n\n```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.kafka
@pytest.mark.tensorflow
@pytest.mark.slow
def test_the_commands_of_the_page_lead_to_a_scored_request(tmp_path: Path) -> None:
    # Other processes of this machine may have the ports of the page.
    kafka, models, ops = free_ports(3)
    ports = {"9092": kafka, "8500": models, "9100": ops}
    with ExitStack() as stack:
        _run_the_page(Shells(tmp_path, stack, STREAMER_OPS__PORT=str(ops)), ports, tmp_path)


def _run_the_page(own: Shells, ports: Mapping[str, int], folder: Path) -> None:
    section = _SECTION.search(PAGE.read_text(encoding="utf-8"))
    assert section is not None, f"{PAGE} has no section {HEADING!r}"
    text = section[1]
    for shown, free in ports.items():
        text = text.replace(shown, str(free))
    ready: dict[str, Callable[[], str | None]] = {
        "python -m sandbox.broker": lambda: why_no_answer(ports["9092"]),
        "python -m sandbox.model_server": lambda: why_no_answer(ports["8500"]),
        "streamer run": lambda: why_not_ready(ports["9100"]),
    }
    outputs: dict[str, str] = {}
    (settings,) = _SETTINGS.findall(text)
    for command in _COMMAND.findall(text):
        (folder / settings[0]).parent.mkdir(parents=True, exist_ok=True)
        (folder / settings[0]).write_text(settings[1])
        background = next((name for name in ready if command.startswith(name)), None)
        if background is None:
            outputs[" ".join(command.split()[:2])] = own.run(command)
        else:
            own.start(command, ready[background])
    assert "wide_deep" in outputs["model-training train"]
    position, first, ads = outputs["streamer send"].splitlines()
    assert ": my-requests partition " in position
    assert re.match(r"r-\d+  ok  ctr/1  20 ads  scored in .* answered after \d+ ms of 500", first), first
    assert re.match(r"    ad-\d+ 0\.\d+ model, .*, 17 more", ads), ads
    assert outputs["streamer tail"].splitlines() == [first, ads]
