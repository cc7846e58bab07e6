"""Commands on the pages exist, with their options; those of the tutorials run as they are written."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

import model_training.commands
import streamer.commands
from sandbox.host.ports import free_ports
from tests.docs.shells import Shells, why_no_answer
from tests.docs.test_pages import PAGES
from tests.docs.worked_examples import ROOT

TUTORIALS = ROOT / "docs/tutorials"
APPS: dict[str, Any] = {
    "streamer": typer.main.get_command(streamer.commands.app),
    "model-training": typer.main.get_command(model_training.commands.app),
}
_BLOCK = re.compile(r"^```\w*\n(.*?)^```$|((?:^ {4,}\S.*\n)+)", re.MULTILINE | re.DOTALL)
_IN_A_BLOCK = re.compile(r"^ *(?:\$ )?((?:streamer|model-training) (?:.*\\\n)*.*)$", re.MULTILINE)
_FILE = re.compile(r"`([^`\n]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TIMES = re.compile(r"^times of ", re.MULTILINE)
_LINE = re.compile(r"^    ((?:python|streamer) .*)$", re.MULTILINE)


def what_is_wrong(line: str) -> str | None:
    """Why a command of a page does not exist as it stands; None if it does."""
    words = shlex.split(re.split(r"[|;&]|\s>", line.replace("\\\n", " "))[0], comments=True)
    command, rest = APPS[words[0]], words[1:]
    while rest and hasattr(command, "commands"):
        if rest[0].startswith("-"):
            break
        if rest[0] not in command.commands:
            return f"no command {rest[0]!r}"
        command, rest = command.commands[rest[0]], rest[1:]
    known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)} | {"--help"}
    unknown = [word for word in rest if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in known]
    return f"no option {unknown}" if unknown else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_options_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = "\n".join(first or second for first, second in _BLOCK.findall(text))
    lines = [line for line in _IN_A_BLOCK.findall(blocks) if "…" not in line and "[" not in line]
    assert [(line, wrong) for line in lines if (wrong := what_is_wrong(line))] == []


def test_wrong_commands_are_found() -> None:
    assert what_is_wrong("streamer tail --config a.yaml -n 1 | head --lines 3") is None
    assert what_is_wrong("streamer tale") == "no command 'tale'"
    assert what_is_wrong("streamer tail --sattus ok > x") == "no option ['--sattus']"


def written(text: str, folder: Path) -> list[str]:
    """Writes the files of a page, and returns its commands."""
    for name, content in _FILE.findall(text):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return _LINE.findall(text)


@pytest.mark.slow
def test_one_request_in_three_forms_has_the_same_features(shells: Shells, tmp_path: Path) -> None:
    outputs = [
        shells.run(line) for line in written((TUTORIALS / "own-format.md").read_text(encoding="utf-8"), tmp_path)
    ]
    rows, columns, nothing, protobuf, request, asyncapi = outputs
    (of_rows,), (of_columns,), (of_protobuf,) = (_TIMES.split(each)[:1] for each in (rows, columns, protobuf))
    assert of_rows == of_columns == of_protobuf
    assert nothing == ""
    assert "missing" not in rows
    assert '"creatives"' in request
    assert '"asyncapi"' in asyncapi


@pytest.mark.kafka
@pytest.mark.tensorflow
@pytest.mark.slow
def test_a_foreign_model_scores_as_the_page_says(shells: Shells, tmp_path: Path) -> None:
    kafka, models = free_ports(2)
    text = (
        (TUTORIALS / "own-model.md")
        .read_text(encoding="utf-8")
        .replace("9092", str(kafka))
        .replace("8500", str(models))
    )
    outputs: dict[str, str] = {}
    for line in written(text, tmp_path):
        if line.startswith("python -m sandbox."):
            port = kafka if "broker" in line else models
            shells.start(line, lambda port=port: why_no_answer(port))  # type: ignore[misc]
        else:
            outputs[line] = shells.run(line)
    draft = (tmp_path / "build/own/draft.yaml").read_text(encoding="utf-8")
    assert "complete this" in draft
    (scores,) = (output for line, output in outputs.items() if line.startswith("streamer explain"))
    assert len(re.findall(r"0\.\d{3,}", scores)) >= 2
