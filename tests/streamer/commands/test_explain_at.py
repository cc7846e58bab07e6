"""`streamer explain --at` reproduces the scores of requests that name ads by id."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiokafka import ConsumerRecord
from typer.testing import CliRunner

from streamer.commands import app
from streamer.errors import ConfigError, StreamerError
from streamer.settings import Settings
from tests.streamer.specs import SMALL

LOG = [
    (0, 0, b"a", b'{"campaign":"c1","bid":1}'),
    (1, 0, b"b", b'{"campaign":"c2"}'),
    (0, 1, b"a", b'{"campaign":"c3","bid":2}'),
    (0, 2, b"a", None),
]
"""Partition, offset, key and value of each record."""


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, bytes, bytes | None]]:
    """The records that the topic has; a test may remove some."""
    left = list(LOG)

    async def read(settings: Settings, name: str) -> AsyncIterator[ConsumerRecord]:
        for partition, offset, key, value in left:
            yield ConsumerRecord(name, partition, offset, 0, 0, key, value, None, -1, -1, ())

    async def ends(settings: Settings, name: str) -> list[int]:
        return [3, 1]

    monkeypatch.setattr("streamer.kafka.topics.records_of", read)
    monkeypatch.setattr("streamer.kafka.topics.ends_of", ends)
    monkeypatch.setenv("STREAMER_ADS__TOPIC", "ads")
    return left


@pytest.fixture
def spec(tmp_path: Path) -> str:
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    return str(path)


def document(candidates: object) -> bytes:
    return json.dumps({"request_id": "r", "user": {"id": 7}, "candidates": candidates}).encode()


BY_ID = document({"ad_id": ["a", "b"]})


def run(spec: str, request: bytes, *options: str) -> tuple[int, str]:
    """Status and output of the command; the text of an error follows the output."""
    found = CliRunner().invoke(app, ["explain", "-", "--spec", spec, *options], input=request, env={"COLUMNS": "200"})
    if isinstance(found.exception, StreamerError):
        return 2 if isinstance(found.exception, ConfigError) else 1, f"{found.stdout}{found.exception}"
    return found.exit_code, found.stdout


def explained(spec: str, request: bytes, *options: str) -> dict[str, Any]:
    status, shown = run(spec, request, *options, "--json")
    assert status == 0, shown
    found: dict[str, Any] = json.loads(shown)
    return found


Log = list[tuple[int, int, bytes, bytes | None]]


@pytest.mark.parametrize(
    ("at", "first"),
    [("1,1", {"ad_id": "a", "campaign": "c1", "bid": 1}), ("2,1", {"ad_id": "a", "campaign": "c3", "bid": 2})],
)
def test_ads_are_those_of_the_position(
    log: Log, spec: str, monkeypatch: pytest.MonkeyPatch, at: str, first: object
) -> None:
    found = explained(spec, BY_ID, "--at", at)
    assert found["ads"] == {"topic": "ads", "positions": [int(part) for part in at.split(",")], "unknown": []}
    monkeypatch.delenv("STREAMER_ADS__TOPIC")
    rows = explained(spec, document([first, {"ad_id": "b", "campaign": "c2"}]))
    assert [each["cache_key"] for each in found["candidates"]] == [each["cache_key"] for each in rows["candidates"]]
    states = {line["name"]: (line["state"], line["value"]) for line in found["features"]}
    assert states["campaign"][0] == "table"
    assert [line["rows"] for line in found["features"]] == [line["rows"] for line in rows["features"]]


def test_values_of_the_request_win(log: Log, spec: str) -> None:
    found = explained(spec, document([{"ad_id": "a", "bid": 0.25, "campaign": ""}, {"ad_id": "b"}]), "--at", "1,1")
    states = {line["name"]: (line["state"], line["value"]) for line in found["features"]}
    assert states["bid"] == ("given", 0.25)
    assert states["campaign"] == ("table", "c1")


def test_numbers_out_of_range_are_counted_once(log: Log, spec: str) -> None:
    wide = json.loads(document([{"ad_id": "a", "bid": "1e999"}, {"ad_id": "b"}]))
    wide["context"] = {"pace": "1e999"}
    found = explained(spec, json.dumps(wide).encode(), "--at", "1,1")
    assert found["out_of_range"] == {"pace": 1, "bid": 1, "band": 1}


def test_an_ad_that_the_topic_did_not_have_is_named(log: Log, spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = explained(spec, BY_ID, "--at", "0,1")
    assert found["ads"]["unknown"] == ["a"]
    assert "ads: topic ads at 0,1; not in it: a\n" in run(spec, BY_ID, "--at", "0,1")[1]
    assert explained(spec, BY_ID)["ads"] == {"topic": "ads", "positions": [3, 1], "unknown": ["a"]}, "deleted now"
    monkeypatch.setenv("STREAMER_ADS__UNKNOWN", "invalid")
    status, shown = run(spec, BY_ID, "--at", "0,1")
    assert (status, "this record would be answered `invalid`" in shown) == (2, True), shown


def test_an_ad_whose_record_is_gone_is_named_and_has_no_score(log: Log, spec: str) -> None:
    del log[0]
    status, shown = run(spec, BY_ID, "--at", "1,1")
    assert status == 1
    assert shown.splitlines() == [
        "the score cannot be reproduced: the features of these ads at the position are not known",
        "ad 'a': its first record is 0:1, and 1 of the 1 records before the position are gone from partition 0",
    ]
    assert run(spec, BY_ID, "--at", "2,1")[0] == 0, "its record at this position is left"


def test_the_answer_has_the_position_and_its_scores(log: Log, spec: str, tmp_path: Path) -> None:
    answer = tmp_path / "answer.json"
    content = {"request_id": "r", "ctr": [0.5, 0.25], "ads": {"topic": "ads", "positions": [1, 1]}}
    answer.write_text(json.dumps(content))
    found = explained(spec, BY_ID, "--at", str(answer))
    assert [each["answered_ctr"] for each in found["candidates"]] == [0.5, 0.25]
    assert "ctr in the answer" in run(spec, BY_ID, "--at", str(answer))[1]
    for change, reason in (
        ({"request_id": "q"}, "--at: the answer is to request 'q', not to 'r'"),
        ({"ctr": [0.5]}, "--at: the answer has 1 scores, the request 2 candidates"),
        (
            {"ads": {"topic": "b", "positions": [1, 1]}},
            "--at: the answer's ads come from topic 'b', ads.topic is 'ads'",
        ),
        ({"ads": None}, f"--at {answer}: expected an answer in JSON with the field ads"),
    ):
        answer.write_text(json.dumps({**content, **change}))
        assert run(spec, BY_ID, "--at", str(answer)) == (2, reason)


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        ("1,2", "--at: topic 'ads' ends at 3,1, before 1,2: it was created again"),
        ("1,1,0", "--at: topic 'ads' ends at 3,1, before 1,1,0: it was created again"),
        ("nowhere", "--at nowhere: expected offsets such as 12,40, or a file: No such file or directory"),
    ],
)
def test_a_position_that_the_topic_never_had(log: Log, spec: str, at: str, reason: str) -> None:
    assert run(spec, BY_ID, "--at", at) == (2, reason)


def test_settings_without_a_topic_of_ads(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STREAMER_ADS__TOPIC", raising=False)
    assert run(spec, BY_ID, "--at", "1,1") == (2, "ads.topic: expected the compacted topic of the ads, got null")
