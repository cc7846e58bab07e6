"""The files of the package are current, and the command prints them."""

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

import streamer.schemas
from streamer.commands import app
from streamer.errors import ConfigError
from streamer.schemas.catalogue import NAMES, contract, text_of
from streamer.settings import Settings
from tests.docs.worked_examples import ROOT
from tests.streamer.extension_package import installed

FOLDER = Path(streamer.schemas.__path__[0])
SCHEMAS = [name for name in NAMES if name != "asyncapi"]


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["schema", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_files_are_current() -> None:
    """`streamer schema --to streamer/schemas` writes them."""
    assert {path.stem for path in FOLDER.glob("*.json")} == set(NAMES)
    for name in NAMES:
        assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == text_of(contract(name, Settings())), name


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_is_a_schema(name: str) -> None:
    Draft202012Validator.check_schema(contract(name, Settings()))


def test_the_command(tmp_path: Path) -> None:
    assert run().split() == list(NAMES)
    assert run("answer") == (FOLDER / "answer.json").read_text(encoding="utf-8")
    config = tmp_path / "streamer.yaml"
    config.write_text("{source: {topic: bids}, codec: {max_candidates: 7}}")
    spec = str(ROOT / "configs/features/openrtb.yaml")
    run("--to", str(tmp_path / "new/schemas"), "--spec", spec, "--config", str(config))
    written = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "new/schemas").iterdir()}
    assert written.keys() == set(NAMES)
    assert written["asyncapi"]["channels"]["requests"]["address"] == "bids"
    request = written["request"]["properties"]
    assert request["tmax"]["exclusiveMinimum"] == 0
    assert request["imp"]["prefixItems"][0]["properties"]["banner"]["type"] == ["object", "null"]
    assert request["candidates"]["oneOf"][0]["maxItems"] == 7


def test_content_types_of_codecs_of_other_packages_are_listed(tmp_path: Path) -> None:
    code = (
        'class Csv:\n    content_types = frozenset({"text/csv"})\n    def read(self, value): return value\ncsv = Csv()'
    )
    config = tmp_path / "streamer.yaml"
    config.write_text("{codec: {formats: [csv]}}")
    with installed(tmp_path, code, {"ctr_streamer.codecs": {"csv": "csv"}}):
        headers = json.loads(run("request-headers", "--config", str(config)))
    types = headers["properties"]["content-type"]["enum"]
    assert types == ["application/json", "application/x-protobuf", "text/csv"]
    with pytest.raises(ConfigError, match="'csv' is not installed"):
        CliRunner().invoke(app, ["schema", "request-headers", "--config", str(config)], catch_exceptions=False)


def test_the_commands_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs/requests.md").read_text(encoding="utf-8")
    commands = re.findall(r"^streamer schema ?([^#\n]*)", page, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        run(*command.split())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["answers"], "no contract 'answers'; expected one of request, "),
        (["answer", "--to", "x"], "--to: writes all contracts; leave out the name"),
        (["request", "--spec", "there-is-no-such.yaml"], "--spec: there-is-no-such.yaml: cannot be read: "),
        (["--to", "/dev/null/x"], "--to: /dev/null/x cannot be written: Not a directory"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CliRunner().invoke(app, ["schema", *arguments], catch_exceptions=False)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
