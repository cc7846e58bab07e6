"""`streamer table` on a real topic of ads, written by the producer of the page."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Producer
from typer.testing import CliRunner

from sandbox.broker.kafka import KafkaBroker
from streamer.commands import app
from streamer.errors import ConfigError, StreamerError
from tests.end_to_end.conftest import System
from tests.kafka_fixtures import FreshTopic
from tests.streamer.specs import SMALL

pytestmark = pytest.mark.kafka
PAGE = (Path(__file__).parents[2] / "docs/tables.md").read_text(encoding="utf-8")

Run = Callable[..., Any]


@pytest.fixture
def topic(kafka: KafkaBroker, fresh_topic: FreshTopic) -> str:
    """A compacted topic with the ads of the page's producer."""
    name = fresh_topic(3, {"cleanup.policy": "compact"}, prefix="ads")
    found = re.search(r"<!-- producer -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert found
    code = found[1].replace("localhost:9092", kafka.bootstrap_servers).replace('"ads"', json.dumps(name))
    exec(compile(code, "docs/tables.md", "exec"), {})  # noqa: S102  our own page
    return name


@pytest.fixture
def table(kafka: KafkaBroker, topic: str, tmp_path: Path) -> Run:
    config, spec = tmp_path / "streamer.yaml", tmp_path / "spec.yaml"
    settings = {
        "kafka": {"bootstrap_servers": kafka.bootstrap_servers, "request_timeout_ms": 60_000},
        "ads": {"topic": topic, "directory": str(tmp_path / "tables")},
    }
    config.write_text(json.dumps(settings))
    spec.write_text(yaml.safe_dump(SMALL))

    def run(*arguments: str, has_spec: bool = False) -> Any:
        options = ["--config", str(config), *(["--spec", str(spec)] if has_spec else [])]
        return CliRunner().invoke(app, ["table", *arguments, *options], env={"COLUMNS": "200"})

    return run


def test_the_commands_read_the_topic(table: Run, topic: str) -> None:
    counted = json.loads(table("count", "ads", "--json").output)
    assert (counted["ads"], counted["tombstones"], counted["records"]) == (1, 1, 3)
    assert [each["partition"] for each in counted["partitions"]] == [0, 1, 2]
    checked = table("check", has_spec=True)
    assert checked.output == "3 records of 2 ads; no findings\n"
    shown = json.loads(table("show", "ads", "a1", "--json", has_spec=True).output)
    assert shown["value"] == {"campaign": "c1", "bid": 0.4, "ad_id": "a1"}
    assert shown["timestamp_ms"] > 1_700_000_000_000
    deleted = table("show", "ads", "a2", has_spec=True).exception
    assert isinstance(deleted, StreamerError)
    assert f"ad 'a2' is not in topic {topic!r}; partition" in str(deleted)
    behind = table("lag").exception
    assert isinstance(behind, StreamerError)
    assert str(behind).startswith(f"no worker of this machine has a table of topic {topic!r} in ")


def test_a_topic_that_is_not_compacted_is_a_finding(
    kafka: KafkaBroker, fresh_topic: FreshTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMER_KAFKA__BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("STREAMER_ADS__TOPIC", fresh_topic(prefix="ads"))
    monkeypatch.setenv("STREAMER_PREDICTOR__ADDRESSES", '["127.0.0.1:1"]')
    found = CliRunner().invoke(app, ["table", "check"])
    assert found.exit_code == 1
    assert "cleanup.policy is delete: " in found.output
    monkeypatch.setenv("STREAMER_ADS__TOPIC", "there-is-no-such-topic")
    missing = CliRunner().invoke(app, ["table", "count"]).exception
    assert isinstance(missing, ConfigError)
    assert "no topic there-is-no-such-topic" in str(missing)


@pytest.mark.slow
def test_a_score_is_explained_by_the_ads_of_its_position(
    system: System, kafka: KafkaBroker, fresh_topic: FreshTopic, tmp_path: Path
) -> None:
    """Also after the ads have changed; and the tables of this machine are shown."""
    topic = fresh_topic(2, {"cleanup.policy": "compact"}, prefix="ads")
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "partitioner": "murmur2_random"})

    def produce(ads: Mapping[str, float]) -> None:
        for ad_id, bid in ads.items():
            producer.produce(topic, key=ad_id, value=json.dumps({"bid": bid, "size": bid}))
        assert producer.flush(300) == 0

    produce({"a1": 1.0, "a2": 2.0})
    asked, answered = tmp_path / "request.json", tmp_path / "answer.json"
    by_id = {"user": {"id": "u1", "age": 31}, "context": {"hour": 7}, "candidates": {"ad_id": ["a1", "a2", "a3"]}}

    def streamer(*arguments: str) -> Any:
        command = [sys.executable, "-m", "streamer", *arguments, "--json"]
        found = subprocess.run(command, env=scorer.environment, capture_output=True, text=True, timeout=300, check=True)
        return json.loads(found.stdout)

    def explained(number: int) -> list[tuple[float, float]]:
        """Scores computed again, and those of the answer."""
        asked.write_text(json.dumps({"request_id": f"r{number}", **by_id}))
        answered.write_text(json.dumps(answers[number]))
        found = streamer("explain", str(asked), "--at", str(answered))
        assert found["ads"]["unknown"] == ["a3"]
        return [(each["ctr"], each["answered_ctr"]) for each in found["candidates"]]

    answers: list[dict[str, Any]] = []
    with system.scorer(ads__topic=topic, ads__directory=str(tmp_path / "tables")) as scorer:
        while sum(answers[-1]["ads"]["positions"] if answers else [0]) < 4:
            if len(answers) == 1:
                produce({"a1": 30.0, "a2": 40.0})
            system.send([json.dumps({"request_id": f"r{len(answers)}", **by_id}).encode()])
            answers.append(system.answers(len(answers) + 1)[f"r{len(answers)}"])
        assert answers[0]["ctr"][:2] != answers[-1]["ctr"][:2]
        for number in (0, len(answers) - 1):
            assert all(again == pytest.approx(before, abs=1e-6) for again, before in explained(number))
        (table,) = streamer("table", "lag")["tables"]
        assert (table["state"], table["ads"], table["behind"]) == ("ready", 2, 0)
        assert table["positions"] == answers[-1]["ads"]["positions"]
