"""Finds a record that kills its worker: isolates records after repeated deaths. Pure.

The state of a partition is in the metadata of its commits, so that the worker that takes it over can read it.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from streamer.types import Partition

# Offsets have 63 bits.
_DIGITS = 19

# Wire format. One group may hold workers of release 0.1, which write and parse `clean`, `running`, `careful until N`
# and `careful until N trying M`, so no byte of these may change: `careful` is the word for the state that the code
# calls `isolated`. They read every other text as `running`, after which they dead-letter nothing. The fourth is only
# read: to write it would tell them that M has killed a worker alone, whatever our count says.
PREFIX = "ctr-streamer:"
"""The first characters of the scorer's metadata."""


def is_number(word: str) -> bool:
    """Whether a word can be an offset or a count; other programs may write any text."""
    return word.isdecimal() and len(word) <= _DIGITS


@dataclass(frozen=True, slots=True)
class Mark:
    """A commit's metadata: its worker's state of the partition, and the deaths at its offset.

    Attributes:
        state: `clean`: the worker released the partition in order. `running`: it processes records at full speed.
            `isolated`: it processes them one at a time, and none is in flight. `trying`: isolated, and the record at
            `at` is its only record in flight.
        until: if `isolated` or `trying`, the offset at which the isolation ends.
        deaths: workers that died before this one and after a commit of offset `at`; if `isolated` or `trying`, only
            those that died while the record at `at` was their only record in flight.
        at: the offset that `deaths` belongs to; 0 if `deaths` is 0 and the state is not `trying`.
    """

    state: Literal["clean", "running", "isolated", "trying"] = "running"
    until: int = 0
    deaths: int = 0
    at: int = 0

    def __str__(self) -> str:
        text = PREFIX + (f"careful until {self.until}" if self.is_isolated else self.state)
        if self.state == "trying":
            return f"{text} trying {self.at} deaths {self.deaths}"
        return f"{text} deaths {self.deaths} at {self.at}" if self.deaths else text

    @classmethod
    def parse(cls, text: str) -> "Mark":
        """Parses the output of `str`, and all marks of release 0.1.

        Metadata of another program, or none, says nothing about a crash and is `clean`. An unknown text with our
        prefix comes from another release of the scorer, whose worker may have crashed: it is `running`.
        """
        if not text.startswith(PREFIX):
            return cls("clean")
        match [int(word) if is_number(word) else word for word in text.removeprefix(PREFIX).split()]:
            case ["clean"]:
                return cls("clean")
            case ["clean", "deaths", int(deaths), "at", int(at)]:
                return cls("clean", 0, deaths, at)
            case ["running", "deaths", int(deaths), "at", int(at)]:
                return cls("running", 0, deaths, at)
            case ["careful", "until", int(until)]:
                return cls("isolated", until)
            case ["careful", "until", int(until), "deaths", int(deaths), "at", int(at)]:
                return cls("isolated", until, deaths, at)
            case ["careful", "until", int(until), "trying", int(at)]:
                return cls("trying", until, 0, at)
            case ["careful", "until", int(until), "trying", int(at), "deaths", int(deaths)]:
                return cls("trying", until, deaths, at)
        return cls()

    @property
    def is_isolated(self) -> bool:
        """Whether records are processed one at a time."""
        return self.state in {"isolated", "trying"}

    def deaths_at(self, start: int, end: int) -> int:
        """Workers that have died at the committed offset `start`, the writer of this mark included.

        0 if nothing before the partition's `end` is unread. If the mark `is_isolated`, only deaths with the record at
        `start` alone in flight count: workers had died repeatedly before that.
        """
        if start >= end:
            return 0
        if self.at == start:
            return self.deaths + (self.state in {"running", "trying"})
        return int(self.state == "running")


class Admission(NamedTuple):
    """How a record is processed.

    Attributes:
        mark: to commit with the record's own offset before it is processed; None if no commit is needed.
        is_suspect: workers died repeatedly while this was their only record in flight; it is not processed again.
    """

    mark: Mark | None
    is_suspect: bool


@dataclass(slots=True)
class _Window:
    until: int
    left: int


@dataclass(slots=True)
class PoisonDetector:
    """Isolates partitions whose workers die at one offset, and finds the killing record.

    1. A partition is isolated only if `deaths_before_isolation` workers have died after the same committed offset. A
       commit of a higher offset starts the count again. A partition without unread records counts no death.
    2. A record is suspect only if `deaths_before_dead_letter` workers died while it was their only record in flight.
    3. The isolation of a partition ends after `max_records` records, the most that a crash leaves uncommitted, or at
       the end that the partition had when it was isolated.
    4. While any partition is `isolated`, the caller processes one record at a time.
    """

    max_records: int
    deaths_before_isolation: int
    deaths_before_dead_letter: int
    _windows: dict[Partition, _Window] = field(default_factory=dict)
    # The offset at which each partition was taken over, and the deaths there.
    _deaths: dict[Partition, tuple[int, int]] = field(default_factory=dict)

    @property
    def isolated(self) -> AbstractSet[Partition]:
        """The partitions whose records are processed one at a time."""
        return self._windows.keys()

    def open(self, partition: Partition, mark: Mark, start: int, end: int) -> int:
        """Takes over a partition; returns the deaths at `start`, as `Mark.deaths_at`.

        `start` and `mark`: its last commit; `end`: its end offset.
        """
        self.forget(partition)
        deaths = mark.deaths_at(start, end)
        self._deaths[partition] = start, deaths
        if mark.is_isolated and start < min(mark.until, end):
            self._windows[partition] = _Window(min(mark.until, end), self.max_records)
        elif deaths >= self.deaths_before_isolation:
            self._windows[partition] = _Window(end, self.max_records)
            # Until now no record has been alone in flight.
            self._deaths[partition] = start, 0
        return deaths

    def deaths(self, partition: Partition, offset: int) -> int:
        """The deaths at the committed offset of an open partition.

        Of an isolated one, at least those that isolate it.
        """
        deaths = self._deaths_at(partition, offset)
        return max(deaths, self.deaths_before_isolation) if partition in self._windows else deaths

    def admit(self, partition: Partition, offset: int) -> Admission:
        """Decides on the partition's next record; one beyond the window ends the isolation."""
        window = self._windows.get(partition)
        if window is None:
            return Admission(None, is_suspect=False)
        if offset >= window.until or not window.left:
            self.forget(partition)
            return Admission(Mark(), is_suspect=False)
        window.left -= 1
        deaths = self._deaths_at(partition, offset)
        mark = Mark("trying", window.until, deaths, offset)
        return Admission(mark, is_suspect=deaths >= self.deaths_before_dead_letter)

    def end_isolation(self, partition: Partition, position: int) -> bool:
        """Ends the isolation if no record before its end is left; returns whether it did.

        All records before `position` have been read. The last offsets of a window may belong to no record.
        """
        window = self._windows.get(partition)
        if window is None or position < window.until:
            return False
        self.forget(partition)
        return True

    def mark(self, partition: Partition, offset: int, *, leaving: bool = False) -> Mark:
        """The mark of a commit of `offset`; `leaving` if the partition is released in order.

        A release without progress keeps the deaths at this offset: their cause is still unread.
        """
        deaths = self._deaths_at(partition, offset)
        at = offset if deaths else 0
        window = self._windows.get(partition)
        if window is not None:
            return Mark("isolated", window.until, deaths, at)
        return Mark("clean" if leaving else "running", 0, deaths, at)

    def forget(self, partition: Partition) -> None:
        """Drops a lost partition."""
        self._windows.pop(partition, None)
        self._deaths.pop(partition, None)

    def _deaths_at(self, partition: Partition, offset: int) -> int:
        start, deaths = self._deaths.get(partition, (offset, 0))
        return deaths if offset == start else 0
