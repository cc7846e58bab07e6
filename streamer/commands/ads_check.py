"""Counts and checks the records of the topic of ads. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from streamer.ads import AdRecord
from streamer.commands.topic_ads import Document, shown_key, why_bad
from streamer.diagnosis.findings import Finding

_DUPLICATE = "its changes have no order; all producers need the same partitioner"


@dataclass(slots=True)
class PartitionCount:
    """The records of one partition.

    Attributes:
        bytes: of keys and values, before compression.
        ads, tombstones: keys by their last record; a tombstone deletes the ad.
    """

    partition: int
    records: int = 0
    bytes: int = 0
    ads: int = 0
    tombstones: int = 0


class AdsCount:
    """Counts the records of a topic by partition, in the order of each partition."""

    def __init__(self, partitions: Collection[int]) -> None:
        self.partitions = {number: PartitionCount(number) for number in sorted(partitions)}
        self._is_live: dict[int, dict[bytes | None, bool]] = {number: {} for number in partitions}

    def add(self, record: AdRecord) -> None:
        """Counts a record."""
        count = self.partitions[record.partition]
        count.records += 1
        count.bytes += len(record.key or b"") + len(record.value or b"")
        if record.unreadable is None:
            self._is_live[record.partition][record.key] = record.value is not None

    def by_partition(self) -> list[PartitionCount]:
        """The counts until now."""
        for number, count in self.partitions.items():
            live = self._is_live[number]
            count.ads = sum(live.values())
            count.tombstones = len(live) - count.ads
        return list(self.partitions.values())


class BadAd(NamedTuple):
    """A record that no table takes: its place, key and the reason."""

    partition: int
    offset: int
    key: str
    reason: str


@dataclass(slots=True)
class AdsCheck:
    """Finds bad records, and ads with records in several partitions.

    Attributes:
        bad: the first `limit` bad records; bad_count: number of all.
        duplicates: partitions of each ad with records in more than one: the order of its changes is lost.
    """

    document: Document
    limit: int
    records: int = 0
    bad_count: int = 0
    bad: list[BadAd] = field(default_factory=list)
    duplicates: dict[str, set[int]] = field(default_factory=dict)
    _partition: dict[bytes, int] = field(default_factory=dict)

    def add(self, record: AdRecord) -> None:
        """Checks a record."""
        self.records += 1
        reason = why_bad(record, self.document)
        if reason is not None:
            self.bad_count += 1
            if len(self.bad) < self.limit:
                self.bad.append(BadAd(record.partition, record.offset, shown_key(record.key), reason))
        if not record.key:
            return
        first = self._partition.setdefault(record.key, record.partition)
        if first != record.partition:
            self.duplicates.setdefault(shown_key(record.key), {first}).add(record.partition)

    @property
    def ads(self) -> int:
        """Number of keys."""
        return len(self._partition)

    def findings(self, of_topic: Sequence[Finding]) -> list[str]:
        """One line each; those of the topic itself are last."""
        lines = [f"bad record {bad.partition}:{bad.offset}, key {bad.key!r}: {bad.reason}" for bad in self.bad]
        if (more := self.bad_count - len(self.bad)) > 0:
            lines.append(f"bad records: {more:,} more (--limit)")
        for ad_id, partitions in self._duplicates():
            lines.append(f"ad {ad_id!r} is in partitions {', '.join(map(str, partitions))}: {_DUPLICATE}")
        if (more := len(self.duplicates) - self.limit) > 0:
            lines.append(f"ads in several partitions: {more:,} more (--limit)")
        return [*lines, *(f"{each.subject}: {each.reason}; {each.remedy}" for each in of_topic)]

    def as_json(self, topic: str, of_topic: Sequence[Finding]) -> dict[str, Any]:
        """The object that the command prints."""
        return {
            "topic": topic,
            "records": self.records,
            "ads": self.ads,
            "bad_count": self.bad_count,
            "bad": [bad._asdict() for bad in self.bad],
            "duplicate_count": len(self.duplicates),
            "duplicates": [{"ad_id": ad_id, "partitions": partitions} for ad_id, partitions in self._duplicates()],
            "findings": [asdict(each) for each in of_topic],
        }

    def _duplicates(self) -> list[tuple[str, list[int]]]:
        """The first ones, at most `limit`."""
        return [(ad_id, sorted(partitions)) for ad_id, partitions in islice(self.duplicates.items(), self.limit)]
