"""`streamer explain` shows the values that the encoder used."""

import io
import json
import math
import re
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from streamer.codec import Codec
from streamer.commands import app
from streamer.commands.explain import feature_table
from streamer.commands.explanation import Explanation, feature_lines
from streamer.errors import ConfigError, StreamerError
from streamer.features import Encoder, FeatureSpec
from streamer.kafka.record_batches import UnreadableRecord
from streamer.settings import Settings
from streamer.settings.sections import CodecSettings
from streamer.types import BidRequest, ModelVersion, Partition
from tests.streamer.formats.binary_requests import by_candidates
from tests.streamer.specs import SMALL, small_spec


def explained(document: bytes, **changes: object) -> dict[str, list[str]]:
    """The cells of each feature's row."""
    spec = FeatureSpec.from_mapping({**SMALL, **changes})
    request = Codec(CodecSettings(), spec.request, spec.document_keys, spec.containers).decode(document, ())
    assert isinstance(request, BidRequest), request
    encoder = Encoder(spec)
    console = Console(file=io.StringIO(), width=300)
    console.print(feature_table(feature_lines(encoder.layout, request, encoder.encode(request))))
    assert isinstance(console.file, io.StringIO)
    lines = [[cell for cell in line.split("  ") if cell.strip()] for line in console.file.getvalue().splitlines()]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


@pytest.mark.parametrize(
    "candidates",
    [
        '[{"ad_id":"a","bid":"2.5","tags":"t","campaign":7.0}]',
        '{"ad_id":["a"],"bid":["2.5"],"tags":["t"],"campaign":[7.0]}',
    ],
)
def test_the_table_shows_each_value_and_what_is_missing(candidates: str) -> None:
    user = '{"id":[18],"age":"inf","likes":["x",null],"sex":["f","m"]}'
    document = f'{{"request_id":"r","user":{user},"context":null,"candidates":{candidates}}}'
    rows = explained(document.encode())
    assert rows["user"][:2] == ["user or context", "[18]"]
    assert rows["age"][1] == '"inf" (missing)'
    assert rows["sex"][1] == '["f", "m"] (missing)'
    assert rows["likes"][1] == '["x", null]'
    assert rows["hour"][1] == "(missing)"
    assert rows["bid"] == ["candidate 0", '"2.5"', "3.0000"]
    assert rows["tags"][1] == '"t"'
    assert rows["campaign"][1] == "7.0"
    assert rows["size"][1] == "(missing)"


def test_the_table_shows_the_number_that_a_foreign_model_gets() -> None:
    serving = {"output": "ctr", "inputs": {"numbers": ["pace", "bid"]}}
    document = b'{"request_id":"r","context":{"pace":"9007199254740992"},"candidates":[{"ad_id":"a","bid":18}]}'
    rows = explained(document, serving=serving)
    assert rows["bid"][2] == "18"
    assert rows["pace"][2] == "9007199254740992"


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """The file of a spec."""
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    return path


def run(spec: Path, document: bytes, *options: str) -> tuple[int, str]:
    """Status and standard output of the command for a request on standard input."""
    found = CliRunner().invoke(app, ["explain", "-", "--spec", str(spec), *options], input=document)
    if isinstance(found.exception, StreamerError):
        return 2, found.stdout + str(found.exception)
    return found.exit_code, found.stdout


DOCUMENT = json.dumps(
    {
        "request_id": "r1",
        "deadline_ms": 25,
        "user": {"id": 2**70, "age": 31},
        "candidates": [{"ad_id": f"ad-{i}", "bid": i} for i in range(7)],
    }
).encode()


def test_a_spec_is_enough(spec: Path) -> None:
    status, shown = run(spec, DOCUMENT)
    assert status == 0, shown
    first = f"request r1: 7 candidates, budget 25 ms, spec small, hash {small_spec().hash}; no model"
    assert " ".join(shown.split()).startswith(first)
    assert "ad-4" in shown
    assert "ad-5" not in shown
    assert "ctr" not in shown


def test_the_object_of_a_request_without_a_model(spec: Path) -> None:
    status, shown = run(spec, DOCUMENT, "--json", "--candidates", "2")
    assert status == 0, shown
    found = json.loads(shown)
    assert list(found) == PAGE_FIELDS
    features = {feature.pop("name"): feature for feature in found.pop("features")}
    assert features.keys() == {feature.name for feature in small_spec().features} - {"band"}, "the model takes no band"
    assert features["user"].items() >= {"side": "request", "value": 2**70, "state": "given", "number": None}.items()
    assert len(features["likes"]["rows"]) == 3
    assert features["sex"].items() >= {"value": None, "state": "missing"}.items()
    assert features["campaign_user"].items() >= {"side": "pair", "state": "cross"}.items()
    assert isinstance(features["bid"]["number"], float)
    assert features["bid"]["rows"] is None
    assert [sorted(candidate) for candidate in found.pop("candidates")] == [["ad_id", "cache_key", "ctr"]] * 2
    assert found.pop("ms")["predict"] is None
    assert found == {
        "outcome": "encoded",
        "request_id": "r1",
        "reason": None,
        "record": None,
        "spec": {"name": "small", "hash": small_spec().hash},
        "model": None,
        "available_versions": [],
        "budget_ms": 25.0,
        "consent_denied": False,
        "out_of_range": {},
        "candidate_count": 7,
        "calls": 1,
        "ads": None,
    }


PAGE = (Path(__file__).parents[3] / "docs/operations.md").read_text(encoding="utf-8")
PAGE_FIELDS = re.findall(r"^\| `(\w+)` \|", re.split("<!-- explain -->|<!-- end -->", PAGE)[1], re.MULTILINE)


def test_a_score_that_is_not_valid_is_null() -> None:
    """The predictor marks it with NaN, which JSON does not have."""
    spec, encoder = small_spec(), Encoder(small_spec())
    request = Codec(CodecSettings(), spec.request, spec.document_keys, spec.containers).decode(DOCUMENT, ())
    assert isinstance(request, BidRequest), request
    ctr, version = [math.nan, 0.5, *[0.1] * 5], ModelVersion("ctr", 1)
    found = Explanation("r1", encoder.layout, encoder.encode(request), [], {}, 25.0, 1, {}, version, (1,), ctr)
    shown = json.loads(found.as_json(2), parse_constant=pytest.fail)
    assert [candidate["ctr"] for candidate in shown["candidates"]] == [None, 0.5]


@pytest.mark.parametrize(
    ("value", "outcome", "request_id"),
    [(b"{nonsense", "dead_letter", None), (b'{"request_id":"r1","candidates":[{"ad_id":3}]}', "invalid", "r1")],
)
def test_the_object_of_a_request_that_is_not_scored(
    spec: Path, value: bytes, outcome: str, request_id: str | None
) -> None:
    status, shown = run(spec, value, "--json")
    assert status == 2
    line, rest = shown.split("\n", 1)
    found = json.loads(line)
    reason = found.pop("reason")
    assert rest.endswith(f": {reason}")
    assert found == {"outcome": outcome, "request_id": request_id, "record": None}


def test_a_record_that_will_never_be_readable_would_be_dead_lettered(
    spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(settings: Settings, partition: Partition, offset: int) -> UnreadableRecord:
        return UnreadableRecord(*partition, offset, -1, 0, None, None, None, -1, -1, (), "too many headers")

    monkeypatch.setattr("streamer.kafka.one_record.read_record", read)
    command = ["explain", "--spec", str(spec), "--topic", "t", "--partition", "2", "--offset", "7", "--json"]
    found = CliRunner().invoke(app, command)
    assert isinstance(found.exception, ConfigError)
    assert str(found.exception) == "this record would be dead-lettered: too many headers"
    assert json.loads(found.stdout) == {
        "outcome": "dead_letter",
        "request_id": None,
        "reason": "too many headers",
        "record": {"topic": "t", "partition": 2, "offset": 7},
    }


@pytest.mark.parametrize(
    "arguments",
    [[], ["-", "--partition", "0", "--offset", "1"], ["--partition", "0"], ["--offset", "0"], ["-", "--topic", "t"]],
)
def test_a_request_is_a_file_or_a_record(arguments: list[str]) -> None:
    found = CliRunner().invoke(app, ["explain", *arguments])
    assert str(found.exception) == "explain: expected a file, or --partition and --offset of a record"


def test_the_table_shows_no_value_of_a_user_without_consent() -> None:
    document = b'{"request_id":"r","user":{"id":"u1","lmt":1},"context":{"hour":3},"candidates":[{"ad_id":"a"}]}'
    rows = explained(document, consent={"denied_by": [{"path": "user.lmt", "values": [1]}]})
    assert rows["user"][1] == "(missing)"
    assert rows["hour"][1] == "3"


def test_the_table_shows_the_text_and_the_id_that_a_foreign_model_gets() -> None:
    raw = [
        {"name": "word", "path": "user.sex", "side": "user", "kind": "text", "default": "?"},
        {"name": "number", "path": "campaign", "side": "candidate", "kind": "integer", "max": 9},
    ]
    serving = {"output": "ctr", "inputs": {"words": ["word"], "numbers": ["number"]}}
    ad = '{"ad_id":"a","campaign":9007199254740993}'
    document = f'{{"request_id":"r","user":{{"id":"u"}},"context":{{}},"candidates":[{ad}]}}'
    features: list[object] = SMALL["features"]  # type: ignore[assignment]
    rows = explained(document.encode(), features=[*features, *raw], serving=serving)
    assert rows["word"] == ["user or context", "(missing)", "?"]
    assert rows["number"] == ["candidate 0", "9007199254740993", "0"]


def test_raw_features_are_shown_as_the_model_gets_them() -> None:
    features = [
        {"name": "tags", "path": "tags", "side": "candidate", "kind": "text", "max_values": 2},
        {"name": "item", "path": "item", "side": "user", "kind": "integer", "default": -1},
        {"name": "sex", "path": "sex", "side": "user", "kind": "text"},
    ]
    inputs = {"tags": ["tags"], "item": ["item"], "e": {"example": {"s": "sex"}}}
    serving = {"output": "p", "inputs": inputs}
    document = b'{"request_id":"r","item":9007199254740993,"candidates":[{"ad_id":"a","tags":["x","y","z"]}]}'
    shown = explained(document, features=features, serving=serving)
    assert shown["tags"] == ["candidate 0", '["x", "y", "z"]', "x y"]
    assert shown["item"] == ["user or context", "9007199254740993", "9007199254740993"]
    assert shown["sex"][:2] == ["user or context", "(missing)"]


def test_a_binary_request_is_read_by_its_content_type(tmp_path: Path) -> None:
    spec, request = tmp_path / "spec.yaml", tmp_path / "request"
    spec.write_text(yaml.safe_dump(SMALL))
    request.write_bytes(by_candidates({"request_id": "r"}, texts={"ad_id": ["a"], "campaign": ["c7"]}))
    arguments = ["explain", str(request), "--spec", str(spec), "--json"]
    found = CliRunner().invoke(app, [*arguments, "--content-type", "application/x-protobuf"])
    assert found.exit_code == 0, found.output
    values = {line["name"]: line["value"] for line in json.loads(found.output)["features"]}
    assert values["campaign"] == "c7"
    assert CliRunner().invoke(app, arguments).exit_code != 0
