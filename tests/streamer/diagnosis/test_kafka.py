"""Bad topics, groups and clocks are named; good ones are not."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from streamer.diagnosis.facts import KafkaFacts, TopicFacts
from streamer.diagnosis.kafka import kafka_findings
from streamer.settings import Settings

CONFIG = {"retention.ms": "604800000", "max.message.bytes": "8388608", "min.insync.replicas": "2"}
TOPIC = TopicFacts(8, 3, CONFIG)
GOOD = KafkaFacts(3, {"bid-requests": TOPIC, "ctr-scores": TOPIC, "dead-letters": TOPIC}, 2, -400.0, 3.0)


def found(facts: KafkaFacts, settings: Mapping[str, object] | None = None, workers: int = 4) -> list[tuple[str, str]]:
    """Severity and subject of each finding."""
    checked = Settings.model_validate(settings or {})
    return [(f.severity, f.subject) for f in kafka_findings(checked, facts, workers)]


def with_topic(name: str, **changes: Any) -> KafkaFacts:
    config = {**CONFIG, **{key.replace("_", "."): str(value) for key, value in changes.items() if "_" in key}}
    plain = {key: value for key, value in changes.items() if "_" not in key}
    return replace(GOOD, topics={**GOOD.topics, name: replace(TOPIC, config=config, **plain)})


def test_good_topics_have_no_finding() -> None:
    assert found(GOOD) == []


def test_unreadable_configurations_are_advice_and_no_guess() -> None:
    topics = dict.fromkeys(GOOD.topics, TopicFacts(8, 3, {}))
    assert found(replace(GOOD, topics=topics)) == [("advice", f"topic {name}") for name in topics]


@pytest.mark.parametrize(
    ("policy", "severity"), [("compact", []), ("compact,delete", ["warning"]), ("delete", ["error"])]
)
def test_a_topic_of_ads_that_loses_ads_is_named(policy: str, severity: list[str]) -> None:
    facts = with_topic("ads", cleanup_policy=policy)
    expected = [(each, "topic ads") for each in severity]
    assert found(facts, {"ads": {"topic": "ads"}}) == expected


@pytest.mark.parametrize("name", GOOD.topics)
def test_a_missing_topic_is_an_error(name: str) -> None:
    assert found(replace(GOOD, topics={**GOOD.topics, name: None})) == [("error", f"topic {name}")]


@pytest.mark.parametrize(
    ("topic", "changes", "severity"),
    [
        ("bid-requests", {"partitions": 3}, "error"),  # fewer than workers
        ("bid-requests", {"partitions": 6}, "warning"),  # 4 workers: 2, 2, 1, 1
        ("bid-requests", {"retention_ms": 60_000}, "warning"),
        ("bid-requests", {"cleanup_policy": "compact,delete"}, "error"),
        ("bid-requests", {"max_message_bytes": 1000}, "warning"),
        ("ctr-scores", {"partitions": 4}, "warning"),
        ("ctr-scores", {"retention_ms": 1000}, "warning"),
        ("ctr-scores", {"max_message_bytes": 1_048_588}, "warning"),
        ("dead-letters", {"retention_ms": 3_600_000}, "warning"),
        ("ctr-scores", {"replicas": 1}, "warning"),
        ("ctr-scores", {"replicas": 2}, "warning"),  # as many as must be in sync
        ("ctr-scores", {"min_insync_replicas": 4}, "error"),
        ("ctr-scores", {"min_insync_replicas": 1}, "warning"),
        ("ctr-scores", {"unclean_leader_election_enable": "true"}, "warning"),
    ],
)
def test_a_bad_topic_is_named(topic: str, changes: Mapping[str, object], severity: str) -> None:
    assert found(with_topic(topic, **changes)) == [(severity, f"topic {topic}")]


def test_retention_without_a_limit_is_long_enough() -> None:
    assert found(with_topic("bid-requests", retention_ms=-1)) == []


def test_one_broker_is_only_advice() -> None:
    topics = {name: replace(TOPIC, replicas=1) for name in GOOD.topics}
    assert {severity for severity, _ in found(replace(GOOD, brokers=1, topics=topics))} == {"advice"}


def test_more_members_than_partitions() -> None:
    assert found(replace(GOOD, members=9)) == [("warning", "group ctr-streamer")]


@pytest.mark.parametrize(
    ("ahead_ms", "age_ms", "severities"),
    [
        (1500.0, None, ["error"]),
        (900.0, None, []),
        (-3.0, 20.0, ["warning"]),
        (-3.0, 31.0, ["error"]),
        (None, None, []),
    ],
)
def test_clocks_that_disagree(ahead_ms: float | None, age_ms: float | None, severities: list[str]) -> None:
    facts = replace(GOOD, ahead_ms=ahead_ms, age_ms=age_ms)
    assert found(facts) == [(severity, "clocks") for severity in severities]
    assert found(facts, {"source": {"deadline_from": "arrival"}}) == []
