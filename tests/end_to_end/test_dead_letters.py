"""`streamer dlq` on a real topic of dead letters."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from typer.testing import CliRunner

from sandbox.broker.kafka import KafkaBroker
from streamer.commands import app
from streamer.errors import ConfigError, StreamerError
from streamer.kafka.dead_letters import headers_of
from streamer.types import DeadLetter, Origin
from tests.kafka_fixtures import FreshTopic

pytestmark = pytest.mark.kafka

Run = Callable[..., Any]


@pytest.fixture
def topics(kafka: KafkaBroker, fresh_topic: FreshTopic) -> tuple[str, str]:
    """A topic with four dead letters, and the empty topic of their origin.

    The third has unusual content: text in brackets, a time in nanoseconds, a header without a value.
    """
    dead, requests = fresh_topic(prefix="dead"), fresh_topic(prefix="requests")
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for offset, (value, stage, reason, timestamp_ms, header) in enumerate(
        [
            (b"{nonsense", "decode", "record: not JSON", 1000, ("trace", b"t")),
            (b'{"user":{"id":"\xc3\xa4"}}', "decode", "request_id: missing", 1000, ("trace", b"t")),
            (b"\xff", "encode", "ad_id: odd [/b] [c]", 1_700_000_000_000_000_000, ("dead_letter.odd", None)),
        ]
    ):
        origin = Origin(requests, 0, offset)
        letter = DeadLetter(b"u%d" % offset, value, [], origin, timestamp_ms, stage, reason)
        producer.produce(dead, letter.value, letter.key, headers=[header, *headers_of(letter)])
    too_large = DeadLetter(None, None, [], Origin(requests, 0, 3), 1000, "decode", "record: too large")
    producer.produce(dead, None, headers=[*headers_of(too_large), ("dead_letter.value_bytes", b"9000000")])
    assert producer.flush(300) == 0
    return dead, requests


@pytest.fixture
def dlq(kafka: KafkaBroker, topics: tuple[str, str], tmp_path: Path) -> Run:
    config = tmp_path / "streamer.yaml"
    settings = {
        "kafka": {"bootstrap_servers": kafka.bootstrap_servers, "request_timeout_ms": 60_000},
        "sink": {"dead_letter_topic": topics[0]},
    }
    config.write_text(json.dumps(settings))

    def run(*arguments: str, **more: Any) -> Any:
        return CliRunner().invoke(app, ["dlq", *arguments, "--config", str(config)], env={"COLUMNS": "300"}, **more)

    return run


def replayed(kafka: KafkaBroker, topic: str, count: int) -> list[Any]:
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": "test", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    try:
        records: list[Any] = consumer.consume(count + 1, timeout=10 if count else 2)
        return records
    finally:
        consumer.close()


def test_a_time_without_a_zone_is_utc_as_the_shown_times_are(dlq: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Etc/GMT+8")
    time.tzset()
    try:
        just_now = datetime.now(UTC) - timedelta(hours=1)
        assert "4 dead letters" in dlq("list", "--since", just_now.strftime("%Y-%m-%d %H:%M")).output
        assert "0 dead letters" in dlq("list", "--since", (just_now + timedelta(hours=2)).isoformat()).output
    finally:
        monkeypatch.undo()
        time.tzset()


def test_list_and_show(dlq: Run, topics: tuple[str, str]) -> None:
    listed = dlq("list")
    assert listed.exit_code == 0, listed.output
    for part in (
        "0:0",
        "record: not JSON",
        "request_id: missing",
        "ad_id: odd [/b] [c]",
        f"{topics[1]}/0@1",
        "9000000",
        "4 dead letters",
    ):
        assert part in listed.output
    some = dlq("list", "--stage", "decode", "--limit", "1")
    assert "record: too large" in some.output
    assert "record: not JSON" not in some.output
    assert "3 dead letters" in some.output
    assert "0 dead letters" in dlq("list", "--since", "2999-01-01").output

    shown = dlq("show", "0:1").output
    for part in ("reason: request_id: missing", "key: u1", "header trace: t", '"id": "ä"'):
        assert part in shown
    odd = dlq("show", "0:2")
    assert odd.exit_code == 0, odd.output
    assert "b'\\xff'" in odd.output
    assert "produced: 1700000000000000000 ms, dead-lettered: 20" in odd.output
    assert "left out" in dlq("show", "0:3").output

    found = json.loads(dlq("list", "--json", "--stage", "encode").stdout)
    assert (found["topic"], found["count"]) == (topics[0], 1)
    (letter,) = found["dead_letters"]
    assert letter["origin"] == {"topic": topics[1], "partition": 0, "offset": 2}
    assert (letter["position"], letter["reason"], letter["bytes"]) == ("0:2", "ad_id: odd [/b] [c]", 1)
    assert json.loads(dlq("show", "--json", "0:2").stdout) == {
        **letter,
        "headers": [],
        "value": "\\xff",
    }
    assert json.loads(dlq("show", "--json", "0:1").stdout)["headers"] == [["trace", "t"]]


@pytest.mark.slow
def test_a_replay_produces_the_record_as_it_was(dlq: Run, kafka: KafkaBroker, topics: tuple[str, str]) -> None:
    assert (
        "2 dead letters match" in dlq("replay", "--reason", "re", "--stage", "decode", "--dry-run", "0:0", "0:1").output
    )
    assert dlq("replay", "0:1", input="n\n").exit_code == 1
    assert replayed(kafka, topics[1], 0) == []
    assert "1 replayed" in dlq("replay", "0:1", "--yes").output
    (record,) = replayed(kafka, topics[1], 1)
    assert (record.key(), record.value()) == (b"u1", b'{"user":{"id":"\xc3\xa4"}}')
    assert dict(record.headers()) == {"trace": b"t", "dead_letter.replays": b"1"}
    assert record.timestamp()[1] > 1_700_000_000_000, "a new budget"
    some = dlq("replay", "--yes")
    assert "3 replayed" in some.output
    assert isinstance(some.exception, StreamerError)
    assert str(some.exception).startswith("1 cannot be replayed")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "17"), "position '17': expected PARTITION:OFFSET"),
        (("list", "--since", "yesterday"), "--since 'yesterday': expected 90s"),
        (("show", "0:99"), "there is no dead letter at 0:99"),
    ],
)
def test_a_wrong_argument_is_reported_in_one_line(dlq: Run, arguments: tuple[str, ...], message: str) -> None:
    refused = dlq(*arguments)
    assert isinstance(refused.exception, StreamerError)
    assert str(refused.exception).startswith(message)


def test_a_replay_that_is_rejected_says_how_many_were_replayed(dlq: Run, fresh_topic: FreshTopic) -> None:
    small = fresh_topic(config={"max.message.bytes": "10"})
    refused = dlq("replay", "0:1", "--yes", "--to", small)
    assert isinstance(refused.exception, StreamerError)
    assert str(refused.exception).startswith(f"0 replayed, then 0:1 was not accepted by topic {small!r}: ")


def test_a_topic_that_does_not_exist(kafka: KafkaBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMER_KAFKA__BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("STREAMER_SINK__DEAD_LETTER_TOPIC", "there-is-no-such-topic")
    refused = CliRunner().invoke(app, ["dlq", "list"])
    assert isinstance(refused.exception, ConfigError)
    assert "no topic there-is-no-such-topic" in str(refused.exception)
