"""Finds the record that kills its worker: after a crash, records go one at a time, each named before it is tried. Pure.

What a worker knows of its partitions stands in the metadata of its commits, which whoever takes them over can read.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from streamer.types import Partition

_PREFIX = "ctr-streamer:"
State = Literal["running", "clean", "careful"]


@dataclass(frozen=True, slots=True)
class Mark:
    """What a commit says of the worker that wrote it, beside the offset.

    Attributes:
        state: `running`: records may be in flight. `clean`: its worker lived to give the partition up.
            `careful`: records go one at a time.
        until: with `careful`, the offset from which on they need not.
        trying: with `careful`, the offset of the only record in flight.
    """

    state: State = "running"
    until: int = 0
    trying: int | None = None

    def __str__(self) -> str:
        if self.state != "careful":
            return _PREFIX + self.state
        return f"{_PREFIX}careful until {self.until}" + ("" if self.trying is None else f" trying {self.trying}")

    @classmethod
    def parse(cls, text: str) -> "Mark":
        """Reads what `str` wrote; anything else was written by somebody else, who may have crashed: `running`."""
        match text.removeprefix(_PREFIX).split():
            case ["clean"] if text.startswith(_PREFIX):
                return cls("clean")
            case ["careful", "until", until] if until.isdecimal():
                return cls("careful", int(until))
            case ["careful", "until", until, "trying", trying] if until.isdecimal() and trying.isdecimal():
                return cls("careful", int(until), int(trying))
        return cls()


class Admission(NamedTuple):
    """How a record is to be handled.

    Attributes:
        mark: to be committed with the record's own offset before it is tried; None where that is not needed.
        is_suspect: its worker has crashed while it was alone in flight: it is not to be tried again.
    """

    mark: Mark | None
    is_suspect: bool


@dataclass(slots=True)
class _Window:
    until: int
    left: int
    suspect: int | None


class Caution:
    """Knows which partitions were left by a crash, and how far their records may be the ones that caused it.

    Promise: a record is suspect only if the mark of a crashed worker names it as the only one in flight. Invariants:
    (1) a partition that was left clean, or where nothing is unread, is worked off as always; (2) caution ends after
    `max_records` records of a partition, the most that a crash leaves uncommitted, or at the end that it had when it
    was taken over; (3) while any partition is under caution, `bool(caution)` is true and records go one at a time.
    """

    def __init__(self, max_records: int) -> None:
        self._max_records = max_records
        self._windows: dict[Partition, _Window] = {}

    def __bool__(self) -> bool:
        return bool(self._windows)

    def __len__(self) -> int:
        return len(self._windows)

    def open(self, partition: Partition, mark: Mark, start: int, end: int) -> None:
        """A partition is ours, committed up to `start` with this mark; `end` is the next offset to be written."""
        until = mark.until if mark.state == "careful" else end
        if mark.state != "clean" and start < until:
            self._windows[partition] = _Window(until, self._max_records, mark.trying)

    def admit(self, partition: Partition, offset: int) -> Admission:
        """The next record of a partition was read; if it lies behind, the caution ends, which is to be marked too."""
        window = self._windows.get(partition)
        if window is None:
            return Admission(None, is_suspect=False)
        if offset >= window.until or not window.left:
            del self._windows[partition]
            return Admission(Mark(), is_suspect=False)
        window.left -= 1
        suspect, window.suspect = window.suspect, None
        return Admission(Mark("careful", window.until, offset), is_suspect=offset == suspect)

    def reached(self, partition: Partition, position: int) -> bool:
        """Nothing before `position` is left to be read, so what is missing was no record. Whether that ends it."""
        window = self._windows.get(partition)
        if window is None or position < window.until:
            return False
        del self._windows[partition]
        return True

    def mark(self, partition: Partition, *, leaving: bool = False) -> Mark:
        """The mark of a commit; `leaving` when the partition is given up in order."""
        window = self._windows.get(partition)
        if window is not None:
            return Mark("careful", window.until, window.suspect)
        return Mark("clean" if leaving else "running")

    def partitions(self) -> list[Partition]:
        """Those under caution."""
        return list(self._windows)

    def forget(self, partition: Partition) -> None:
        """The partition is somebody else's now."""
        self._windows.pop(partition, None)
