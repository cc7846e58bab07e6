"""The topic of ads as its producer wrote it. Thread-safe."""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from sandbox.world.ad_changes import AdChange


class _Written(NamedTuple):
    offset: int
    value: bytes | None


class AdHistory:
    """All records of the topic, by ad.

    - An ad has one partition: its producer chooses it by the key.
    - The value of an ad at a position is that of its last record whose offset is less than the position's.
    """

    def __init__(self, topic: str, partitions: int) -> None:
        self.topic = topic
        self._ends = [0] * partitions
        self._records: dict[int, list[_Written]] = {}
        self._partition: dict[int, int] = {}
        self._lock = threading.Lock()
        self._kinds: Counter[str] = Counter()

    def add(self, change: AdChange, partition: int, offset: int) -> None:
        """Records a change that the broker has stored."""
        with self._lock:
            records = self._records.setdefault(change.ad, [])
            known = bool(records) and records[-1].value is not None
            self._kinds["deleted" if change.value is None else "changed" if known else "added"] += 1
            records.append(_Written(offset, change.value))
            self._partition[change.ad] = partition
            self._ends[partition] = max(self._ends[partition], offset + 1)

    @property
    def ends(self) -> tuple[int, ...]:
        """The next offset of each partition."""
        with self._lock:
            return tuple(self._ends)

    @property
    def kinds(self) -> dict[str, int]:
        """Number of records that changed, deleted and added an ad."""
        with self._lock:
            return {kind: self._kinds[kind] for kind in ("changed", "deleted", "added")}

    def at(self, ad: int, positions: Sequence[int]) -> bytes | None:
        """The value of an ad at a position; None: the topic did not have the ad there."""
        with self._lock:
            before = self._before(ad, positions)
            return self._records[ad][before - 1].value if before else None

    def changes_before(self, ad: int, positions: Sequence[int]) -> int:
        """Number of records of an ad after its first one, at a position."""
        with self._lock:
            return max(0, self._before(ad, positions) - 1)

    def _before(self, ad: int, positions: Sequence[int]) -> int:
        records = self._records.get(ad, [])
        return bisect_left(records, positions[self._partition[ad]], key=lambda r: r.offset) if records else 0
