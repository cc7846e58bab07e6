"""Where a partition is read from, by its commit, its log and the commits of its topic."""

from typing import Literal

import pytest

from streamer.kafka.first_position import Log, position_of, without_commit
from streamer.kafka.log_evidence import Evidence
from streamer.kafka.poison import PREFIX, Mark

TOPIC, OTHER_TOPIC = 7, 8
OF_TOPIC = PREFIX + "running" + str(Evidence(TOPIC, 4))
OF_OTHER = PREFIX + "running deaths 2 at 100" + str(Evidence(OTHER_TOPIC, 4)) + " answered 110-120"
WITHOUT = PREFIX + "running"


@pytest.mark.parametrize(
    ("metadata", "log", "is_out_of_range", "offset", "why"),
    [
        (OF_TOPIC, Log(0, 300, TOPIC), False, 100, ""),
        (WITHOUT, Log(0, 300, TOPIC), False, 100, ""),
        ("", Log(0, 300, TOPIC), False, 100, ""),  # an operator has reset it
        (OF_TOPIC, Log(0, 300), False, 100, ""),  # brokers without topic ids
        # Retention has deleted the records from the commit on.
        (OF_TOPIC, Log(150, 300, TOPIC), False, 150, "deleted"),
        (WITHOUT, Log(150, 300), False, 150, "deleted"),
        (OF_TOPIC, Log(150, 150, TOPIC), True, 150, "deleted"),
        # The log is another one, shorter than the commit or already longer.
        (OF_OTHER, Log(0, 30, TOPIC), False, 0, "recreated"),
        (OF_OTHER, Log(0, 300, TOPIC), False, 0, "recreated"),
        (OF_OTHER, Log(150, 300, TOPIC), False, 150, "recreated"),
        # The log ends before the commit: behind an open transaction, or truncated if the brokers reject the position.
        (OF_TOPIC, Log(0, 30, TOPIC), False, 100, ""),
        (OF_TOPIC, Log(0, 30, TOPIC), True, 0, "truncated"),
        (WITHOUT, Log(10, 30), True, 10, "truncated"),
        # A broker that has just become the leader rejects a valid position for a moment.
        (OF_TOPIC, Log(0, 300, TOPIC), True, 100, ""),
    ],
)
def test_a_commit_is_checked_against_the_log(
    metadata: str, log: Log, is_out_of_range: bool, offset: int, why: str
) -> None:
    found = position_of(100, metadata, log, is_out_of_range=is_out_of_range)
    assert (found.offset, found.why) == (offset, why)
    assert found.evidence.topic in {log.topic, TOPIC}


def test_a_commit_of_another_topic_gives_no_mark_and_no_ranges() -> None:
    found = position_of(100, OF_OTHER, Log(0, 300, TOPIC))
    assert (found.mark, found.answered) == (Mark("clean"), ())
    assert found.evidence == Evidence(TOPIC), "source.start_at does not apply to its partitions"


@pytest.mark.parametrize(
    ("partition", "commits", "start_at", "offset", "why"),
    [
        (0, [], "latest", 50, "first start"),
        (3, [], "latest", 50, "first start"),
        (0, [], "earliest", 10, "first start"),
        # Another member has committed at the same first start.
        (3, [Evidence(TOPIC, 4)], "latest", 50, "first start"),
        # The partition was added later.
        (4, [Evidence(TOPIC, 4)], "latest", 10, "added"),
        (4, [Evidence(TOPIC, 4), Evidence(TOPIC, 6)], "latest", 10, "added"),
        # Commits of earlier releases, or of an operator's reset: the group has read the topic.
        (3, [Evidence()], "latest", 10, "added"),
        (3, [Evidence(TOPIC, 4), Evidence()], "latest", 10, "added"),
        # The group has read an earlier topic of this name.
        (0, [Evidence(OTHER_TOPIC, 4)], "latest", 10, "recreated"),
    ],
)
def test_start_at_applies_to_the_groups_first_start_only(
    partition: int, commits: list[Evidence], start_at: Literal["earliest", "latest"], offset: int, why: str
) -> None:
    found = without_commit(partition, Log(10, 50, TOPIC), commits, count=4, start_at=start_at)
    assert (found.offset, found.why) == (offset, why)


def test_the_number_of_partitions_at_the_first_start_stays() -> None:
    """Otherwise a partition that is opened after the next one was added would count as one of the first start."""
    first = without_commit(0, Log(0, 0, TOPIC), [], count=4, start_at="latest").evidence
    added = without_commit(4, Log(0, 0, TOPIC), [first], count=5, start_at="latest").evidence
    kept = position_of(9, PREFIX + "clean" + str(first), Log(0, 10, TOPIC)).evidence
    assert {first, added, kept} == {Evidence(TOPIC, 4)}
