"""`streamer table` on records of the topic of ads."""

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiokafka import ConsumerRecord
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from streamer.ads import AdRecord
from streamer.commands import app
from streamer.commands.ads_topic import form_without_spec
from streamer.commands.table import lag_of
from streamer.commands.topic_ads import AdsAt
from streamer.diagnosis.facts import KafkaFacts, TopicFacts
from streamer.errors import ConfigError, StreamerError
from streamer.kafka.record_batches import UnreadableRecord
from streamer.settings import Settings
from streamer.tables.mapped_file import TableState
from streamer.tables.store import StoredTable
from tests.streamer.specs import SMALL

Content = tuple[int, bytes | None, bytes | None]
"""Partition, key and value."""
NO_FORM = form_without_spec()


def records(contents: Sequence[Content]) -> list[AdRecord]:
    """Their records, with the offsets of a log that lost nothing."""
    ends: dict[int, int] = {}
    found = []
    for i, (partition, key, value) in enumerate(contents):
        offset = ends.get(partition, 0)
        ends[partition] = offset + 1
        found.append(AdRecord(partition, offset, 1_000 * i, key, value))
    return found


def state_at(found: Sequence[AdRecord], ad_id: str, offsets: Sequence[int] | None) -> tuple[Any, str | None]:
    ads = AdsAt([ad_id], NO_FORM.document, offsets)
    for record in found:
        ads.add(record)
    state = ads.state(ad_id)
    return state.document, state.why_unknown


BAD = "its record 0:2 is bad (value: expected an object, got []); tables keep the former one"
HISTORY = records(
    [
        (0, b"a", b'{"bid":1}'),
        (1, b"b", b'{"bid":2}'),
        (0, b"a", b'{"bid":3}'),
        (0, b"a", b"[]"),
        (0, b"a", None),
        (0, b"a", b'{"bid":4}'),
    ]
)


@pytest.mark.parametrize(
    ("offsets", "bid"), [((0, 0), None), ((1, 0), 1), ((2, 1), 3), ((3, 1), 3), ((4, 1), None), ((5, 1), 4), (None, 4)]
)
def test_an_ad_is_as_the_table_had_it_at_the_position(offsets: Sequence[int] | None, bid: int | None) -> None:
    assert state_at(HISTORY, "a", offsets) == (None if bid is None else {"ad_id": "a", "bid": bid}, None)


@pytest.mark.parametrize(
    ("left", "offsets", "why"),
    [
        ([5], (2, 1), "its first record is 0:4, and 2 of the 2 records before the position are gone from partition 0"),
        ([], (4, 1), "it has no record, and 4 of the 4 records before the position are gone from partition 0"),
        (
            [3, 5],
            (3, 0),
            "its first record is 0:4, and 2 of the 3 records before the position are gone from partition 0",
        ),
        ([2, 3, 5], (3, 0), BAD),
        ([2, 5], (2, 0), None),
    ],
)
def test_an_ad_whose_record_is_gone_has_no_wrong_features(
    left: Sequence[int], offsets: Sequence[int], why: str | None
) -> None:
    document, reason = state_at([HISTORY[i] for i in left], "a", offsets)
    assert reason == why
    assert document is None or document["bid"] == 3


@settings(max_examples=40)
@given(st.data())
def test_compaction_changes_no_features_that_are_known(data: st.DataObject) -> None:
    """Compaction removes records of a key that a later one follows, the older ones first."""
    contents = st.tuples(
        st.integers(0, 1), st.sampled_from([b"a", b"b"]), st.none() | st.integers(0, 9).map(lambda i: b'{"v":%d}' % i)
    )
    log = records([(len(key) and key[0] % 2, key, value) for _, key, value in data.draw(st.lists(contents))])
    ends = [sum(record.partition == partition for record in log) for partition in range(2)]
    offsets = [data.draw(st.integers(0, end)) for end in ends]
    cleaned_to = data.draw(st.integers(0, len(log)))
    newest = {record.key: i for i, record in enumerate(log[:cleaned_to])}
    has_deleted = data.draw(st.booleans())
    left = [
        record
        for i, record in enumerate(log)
        if i >= cleaned_to or (newest[record.key] == i and not (has_deleted and record.value is None))
    ]
    for ad_id in ("a", "b"):
        document, why = state_at(left, ad_id, offsets)
        assert why is not None or (document, None) == state_at(log, ad_id, offsets)


def test_an_ad_in_several_partitions_has_no_order() -> None:
    found = records([(0, b"a", b'{"bid":1}'), (1, b"a", b'{"bid":2}')])
    assert state_at(found, "a", (1, 1))[1] == "it has records in several partitions (0:0, 1:0)"
    assert state_at(found, "a", (1, 0)) == ({"ad_id": "a", "bid": 1}, None)


def test_lag_is_the_records_after_a_tables_position() -> None:
    state = TableState(True, False, (3, 9), 1.0, 7, 4_096, 100.0)
    found = lag_of(StoredTable("ads", "id", "f00d", 100, state), [5, 9, 4], 102.5)
    assert (found["state"], found["behind"], found["seconds_since_write"]) == ("ready", 6, 2.5)


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> list[Content]:
    """Contents of the topic, which a test adds to."""
    contents: list[Content] = []

    async def read(settings: Settings, name: str) -> AsyncIterator[ConsumerRecord]:
        for each in records(contents):
            place = (name, each.partition, each.offset, each.timestamp_ms, 0)
            if each.key == b"?":
                yield UnreadableRecord(*place, None, None, None, -1, -1, (), "too many headers")
            else:
                yield ConsumerRecord(*place, each.key, each.value, None, -1, -1, ())

    async def partitions(settings: Settings, name: str) -> frozenset[int]:
        return frozenset({0, 1})

    monkeypatch.setattr("streamer.kafka.topics.records_of", read)
    monkeypatch.setattr("streamer.kafka.topics.partitions_of", partitions)
    monkeypatch.setenv("STREAMER_ADS__TOPIC", "ads")
    return contents


@pytest.fixture
def spec(tmp_path: Path) -> str:
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    return str(path)


def run(*arguments: str) -> tuple[int, str]:
    """Status and output of a command; the line of an error follows the output."""
    found = CliRunner().invoke(app, ["table", *arguments], env={"COLUMNS": "200"})
    if found.exception is not None and not isinstance(found.exception, StreamerError | SystemExit):
        raise found.exception
    if isinstance(found.exception, StreamerError):
        return 2 if isinstance(found.exception, ConfigError) else 1, f"{found.stdout}{found.exception}"
    return found.exit_code, found.stdout


def test_an_ad_is_shown_with_its_place_and_rows(topic: list[Content], spec: str) -> None:
    topic += [(1, b"a", b'{"bid":1}'), (1, b"a", b'{"campaign":"c7","bid":2.5}')]
    status, shown = run("show", "ads", "a", "--spec", spec)
    assert status == 0, shown
    assert shown.startswith("ad a: partition 1, offset 1, 1970-01-01 00:00:01 UTC\n")
    assert '"campaign": "c7"' in shown
    status, shown = run("show", "ads", "a", "--spec", spec, "--json")
    found = json.loads(shown)
    assert (found["partition"], found["offset"], found["warnings"]) == (1, 1, [])
    assert found["value"] == {"ad_id": "a", "campaign": "c7", "bid": 2.5}
    features = {line["name"]: line for line in found["features"]}
    assert features["bid"]["number"] == 3.0
    assert len(features["campaign"]["rows"]) == 1
    assert "user" not in features


def test_an_ad_that_the_topic_does_not_have(topic: list[Content], spec: str) -> None:
    topic += [(1, b"a", b'{"bid":1}'), (1, b"a", None)]
    assert run("show", "ads", "b", "--spec", spec) == (1, "ad 'b' is not in topic 'ads'")
    status, shown = run("show", "ads", "a", "--spec", spec)
    assert (status, shown) == (1, "ad 'a' is not in topic 'ads'; partition 1, offset 1 deleted it")
    status, shown = run("show", "ads", "a", "--spec", spec, "--json")
    assert json.loads(shown.splitlines()[0])["value"] is None


def test_a_bad_record_after_the_ads_own_is_a_warning(topic: list[Content], spec: str) -> None:
    topic += [(1, b"a", b'{"bid":1}'), (1, b"a", b"[]"), (0, b"b", b"[]")]
    bad = "its record 1:1 is bad (value: expected an object, got []); tables keep the former one"
    assert f"\nwarning: {bad}\n" in run("show", "ads", "a", "--spec", spec)[1]
    status, shown = run("show", "ads", "b", "--spec", spec)
    assert (status, shown.count("its record 0:0 is bad")) == (1, 1), shown


def test_records_are_counted_by_partition(topic: list[Content]) -> None:
    topic += [(0, b"a", b"{}"), (0, b"a", b"{}"), (0, b"b", b"{}"), (0, b"b", None), (1, b"c", b"{}"), (1, b"?", None)]
    status, shown = run("count", "--json")
    assert status == 0, shown
    assert json.loads(shown) == {
        "topic": "ads",
        "partitions": [
            {"partition": 0, "records": 4, "bytes": 10, "ads": 1, "tombstones": 1},
            {"partition": 1, "records": 2, "bytes": 3, "ads": 1, "tombstones": 0},
        ],
        "ads": 2,
        "tombstones": 1,
        "records": 6,
        "bytes": 13,
    }
    lines = [line.split() for line in run("count", "ads")[1].splitlines()]
    assert lines[0] == ["partition", "ads", "tombstones", "records", "bytes"]
    assert lines[1:] == [["0", "1", "1", "4", "10"], ["1", "1", "0", "2", "3"], ["all", "2", "1", "6", "13"]]


@pytest.fixture
def policy(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The configuration of the topic."""
    configs = {"cleanup.policy": "compact"}

    async def facts(settings: Settings, names: Sequence[str]) -> KafkaFacts:
        return KafkaFacts(1, {name: TopicFacts(2, 1, configs) for name in names})

    monkeypatch.setattr("streamer.kafka.facts.topic_facts", facts)
    return configs


def test_a_topic_without_findings(topic: list[Content], policy: dict[str, str], spec: str) -> None:
    topic += [(0, b"a", b'{"ad_id":"a"}'), (1, b"b", None)]
    assert run("check", "--spec", spec) == (0, "2 records of 2 ads; no findings\n")


def test_findings_are_named(topic: list[Content], policy: dict[str, str], spec: str) -> None:
    topic += [
        (0, b"a", b'{"ad_id":"b"}'),
        (0, None, b"{}"),
        (1, b"?", None),
        (0, b"\xff", None),
        (1, b"a", b'{"ad_id":"a"}'),
    ]
    policy["cleanup.policy"] = "compact,delete"
    status, shown = run("check", "--spec", spec)
    assert status == 1
    assert shown.splitlines() == [
        "bad record 0:0, key 'a': ad_id: expected the record's key 'a', got 'b'",
        "bad record 0:1, key '': key: expected the ad id, got nothing",
        "bad record 1:0, key '': too many headers",
        "bad record 0:2, key '\\\\xff': key: expected the ad id in UTF-8",
        "ad 'a' is in partitions 0, 1: its changes have no order; all producers need the same partitioner",
        "topic ads: cleanup.policy is compact,delete: ads that do not change for retention.ms are missing after "
        "the next load; set cleanup.policy=compact",
        "5 records of 2 ads; 6 findings",
    ]
    found = json.loads(run("check", "--spec", spec, "--json", "--limit", "1")[1])
    assert (found["bad_count"], len(found["bad"]), found["duplicate_count"]) == (4, 1, 1)
    assert found["duplicates"] == [{"ad_id": "a", "partitions": [0, 1]}]
    assert [each["severity"] for each in found["findings"]] == ["warning"]


def test_without_a_models_spec_keys_and_json_are_checked(
    topic: list[Content], policy: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMER_PREDICTOR__ADDRESSES", '["127.0.0.1:1"]')
    monkeypatch.setenv("STREAMER_PREDICTOR__CONTROL_TIMEOUT_MS", "100")
    topic += [(0, b"a", b"[]")]
    status, shown = run("check")
    assert status == 1
    assert "bad record 0:0, key 'a': value: expected an object, got []" in shown
    assert "keys and JSON only: no model's spec (" in shown


def test_settings_without_a_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STREAMER_ADS__TOPIC", raising=False)
    assert run("count") == (2, "ads.topic: expected the compacted topic of the ads, got null")
