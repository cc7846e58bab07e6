"""Finds a record that kills its worker, by the isolation of records after a crash. Pure.

The state of a partition is in the metadata of its commits, so that the worker that takes it over can read it.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, NamedTuple

from streamer.types import Partition

# Wire format. Workers of release 0.1 write and parse these strings, and one group may hold workers of both releases, so
# no byte may change: `careful` is the word for the state that the code calls `isolated`.
_PREFIX = "ctr-streamer:"


@dataclass(frozen=True, slots=True)
class Mark:
    """The metadata of a commit: the state in which its worker had the partition.

    Attributes:
        state: `running`: records may be uncommitted. `clean`: the worker released the partition in order.
            `isolated`: records are processed one at a time.
        until: if `isolated`, the offset at which the isolation ends.
        trying: if `isolated`, the offset of the only record in flight.
    """

    state: Literal["running", "clean", "isolated"] = "running"
    until: int = 0
    trying: int | None = None

    def __str__(self) -> str:
        if self.state != "isolated":
            return _PREFIX + self.state
        return f"{_PREFIX}careful until {self.until}" + ("" if self.trying is None else f" trying {self.trying}")

    @classmethod
    def parse(cls, text: str) -> "Mark":
        """Parses the output of `str`. Any other text is `running`: its writer may have crashed."""
        match text.removeprefix(_PREFIX).split():
            case ["clean"] if text.startswith(_PREFIX):
                return cls("clean")
            case ["careful", "until", until] if until.isdecimal():
                return cls("isolated", int(until))
            case ["careful", "until", until, "trying", trying] if until.isdecimal() and trying.isdecimal():
                return cls("isolated", int(until), int(trying))
        return cls()


class Admission(NamedTuple):
    """How a record is processed.

    Attributes:
        mark: to commit with the record's own offset before it is processed; None if no commit is needed.
        is_suspect: a worker died while this was its only record in flight; it is not processed again.
    """

    mark: Mark | None
    is_suspect: bool


@dataclass(slots=True)
class _Window:
    until: int
    left: int
    suspect: int | None


class PoisonDetector:
    """Isolates partitions whose last worker crashed, and finds the record that killed it.

    1. A record is suspect only if the mark of a crashed worker names it as the only record in flight.
    2. A partition that was left clean, or that has no unread records, is not isolated.
    3. The isolation of a partition ends after `max_records` records, the most that a crash leaves uncommitted, or at
       the end that the partition had when it was taken over.
    4. While any partition is `isolated`, the caller processes one record at a time.
    """

    def __init__(self, max_records: int) -> None:
        self._max_records = max_records
        self._windows: dict[Partition, _Window] = {}

    @property
    def isolated(self) -> Collection[Partition]:
        """The partitions whose records are processed one at a time."""
        return self._windows.keys()

    def open(self, partition: Partition, mark: Mark, start: int, end: int) -> None:
        """Takes over a partition. `start` and `mark`: its last commit; `end`: its end offset."""
        until = mark.until if mark.state == "isolated" else end
        if mark.state != "clean" and start < until:
            self._windows[partition] = _Window(until, self._max_records, mark.trying)

    def admit(self, partition: Partition, offset: int) -> Admission:
        """Decides on the partition's next record; one beyond the window ends the isolation."""
        window = self._windows.get(partition)
        if window is None:
            return Admission(None, is_suspect=False)
        if offset >= window.until or not window.left:
            del self._windows[partition]
            return Admission(Mark(), is_suspect=False)
        window.left -= 1
        suspect, window.suspect = window.suspect, None
        return Admission(Mark("isolated", window.until, offset), is_suspect=offset == suspect)

    def end_isolation(self, partition: Partition, position: int) -> bool:
        """Ends the isolation if no record before its end is left; returns whether it did.

        All records before `position` have been read. The last offsets of a window may belong to no record.
        """
        window = self._windows.get(partition)
        if window is None or position < window.until:
            return False
        del self._windows[partition]
        return True

    def mark(self, partition: Partition, *, leaving: bool = False) -> Mark:
        """The mark of a commit; `leaving` if the partition is released in order."""
        window = self._windows.get(partition)
        if window is not None:
            return Mark("isolated", window.until, window.suspect)
        return Mark("clean" if leaving else "running")

    def forget(self, partition: Partition) -> None:
        """Drops a lost partition."""
        self._windows.pop(partition, None)
