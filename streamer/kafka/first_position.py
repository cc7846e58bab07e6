"""Decides where a partition is read from: checks its commit against its log. Pure."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from streamer.kafka import answered_ranges
from streamer.kafka.answered_ranges import Range, Ranges, joined
from streamer.kafka.log_evidence import Evidence
from streamer.kafka.poison import Mark


@dataclass(frozen=True, slots=True)
class Log:
    """What the brokers have of a partition.

    Attributes:
        first: its first offset.
        end: the offset after its last readable record. Its last records may belong to an open transaction.
        topic: fingerprint of its topic's id; 0 if not known.
    """

    first: int
    end: int
    topic: int = 0


class Position(NamedTuple):
    """Where a partition is read from.

    Attributes:
        answered: ranges above `offset` whose records are answered.
        why: why it is not at the commit: `first start`: `source.start_at` applies. `added`: the partition did not exist
            at the group's first start, or its commit has expired. `deleted`: retention has deleted the records from
            the commit on. `truncated`: the log ends before the commit. `recreated`: the commit is of another topic
            with this name.
    """

    offset: int
    mark: Mark
    answered: Ranges
    evidence: Evidence
    why: Literal["", "first start", "added", "deleted", "truncated", "recreated"] = ""


def position_of(offset: int, metadata: str, log: Log, *, is_out_of_range: bool = False) -> Position:
    """Where to read a partition with a commit.

    `is_out_of_range`: the brokers have rejected a fetch at the commit. A commit above the `end` alone may be valid: it
    may be behind an open transaction.
    """
    text, answered = answered_ranges.parse(metadata)
    mark, evidence = Mark.parse(text), Evidence.parse(text)
    if evidence.is_of_another(log.topic):
        return Position(log.first, Mark("clean"), (), Evidence(log.topic), "recreated")
    kept = Evidence(log.topic or evidence.topic, evidence.first_partitions)
    if is_out_of_range and offset > log.end:
        return Position(log.first, Mark("clean"), (), kept, "truncated")
    # Another program may have written any numbers.
    readable = joined(Range(each.start, min(each.end, log.end)) for each in answered)
    if offset < log.first:
        return Position(log.first, mark, readable, kept, "deleted")
    return Position(offset, mark, readable, kept)


def without_commit(
    partition: int, log: Log, commits: Collection[Evidence], count: int, start_at: Literal["earliest", "latest"]
) -> Position:
    """Where to read a partition without a commit.

    `commits`: the evidence of the commits of the topic's other partitions; `count`: number of its partitions.

    Only at the group's first start on the topic `start_at` applies. Its other members may have committed already, so
    each commit says how many partitions the topic had then. A later partition has only records that the group must
    answer.
    """
    scope = _first_partitions(commits, log.topic, count)
    evidence = Evidence(log.topic, scope)
    if partition >= scope:
        is_new_topic = any(each.is_of_another(log.topic) for each in commits)
        return Position(log.first, Mark("clean"), (), evidence, "recreated" if is_new_topic else "added")
    start = log.end if start_at == "latest" else log.first
    return Position(start, Mark("clean"), (), evidence, "first start")


def _first_partitions(commits: Iterable[Evidence], topic: int, count: int) -> int:
    return min((0 if each.is_of_another(topic) else each.first_partitions for each in commits), default=count)
