from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.kafka.poison import Mark, PoisonDetector

P, Q = ("t", 0), ("t", 1)
RUNNING, CLEAN = Mark(), Mark("clean")
ISOLATION, DEAD_LETTER = 3, 2
MARKS = [
    RUNNING,
    Mark("running", 0, 2, 5),
    CLEAN,
    Mark("clean", 0, 1, 0),
    Mark("isolated", 17),
    Mark("isolated", 17, 1, 12),
    Mark("trying", 17, 0, 12),
    Mark("trying", 17, 3, 0),
]


def new_detector(max_records: int = 100) -> PoisonDetector:
    return PoisonDetector(max_records, ISOLATION, DEAD_LETTER)


def as_0_1(text: str) -> tuple[str, int, int | None]:
    """State, end of the isolation and suspect, as release 0.1 parses a mark. A copy of its rule."""
    match text.removeprefix("ctr-streamer:").split():
        case ["clean"] if text.startswith("ctr-streamer:"):
            return "clean", 0, None
        case ["careful", "until", until] if until.isdecimal():
            return "isolated", int(until), None
        case ["careful", "until", until, "trying", trying] if until.isdecimal() and trying.isdecimal():
            return "isolated", int(until), int(trying)
    return "running", 0, None


@pytest.mark.parametrize("mark", MARKS, ids=str)
def test_a_mark_is_parsed_as_it_was_written(mark: Mark) -> None:
    assert Mark.parse(str(mark)) == mark


def test_the_wire_format() -> None:
    assert [str(mark) for mark in MARKS] == [
        "ctr-streamer:running",
        "ctr-streamer:running deaths 2 at 5",
        "ctr-streamer:clean",
        "ctr-streamer:clean deaths 1 at 0",
        "ctr-streamer:careful until 17",
        "ctr-streamer:careful until 17 deaths 1 at 12",
        "ctr-streamer:careful until 17 trying 12 deaths 0",
        "ctr-streamer:careful until 17 trying 0 deaths 3",
    ]


@given(
    state=st.sampled_from(["clean", "running", "isolated", "trying"]),
    until=st.integers(0, 2**63),
    deaths=st.integers(0, 9),
    at=st.integers(0, 2**63),
)
def test_release_0_1_never_finds_a_suspect_in_a_mark(state: str, until: int, deaths: int, at: int) -> None:
    mark = Mark(state, until, deaths, at)  # type: ignore[arg-type]
    found, end, suspect = as_0_1(str(mark))
    assert suspect is None
    assert found == "running" or (found, end) == (state, until if state == "isolated" else 0)


def test_a_mark_of_release_0_1_is_one_death_alone() -> None:
    mark = Mark.parse("ctr-streamer:careful until 17 trying 12")
    assert mark.deaths_at(12, 20) == 1
    detector = new_detector()
    detector.open(P, mark, 12, 20)
    assert detector.admit(P, 12) == (Mark("trying", 17, 1, 12), False)


@pytest.mark.parametrize("text", ["", "clean", "consumer-1", "running", "careful until 9 trying 3"])
def test_metadata_of_another_program_is_no_crash(text: str) -> None:
    assert Mark.parse(text) == CLEAN


@pytest.mark.parametrize("words", ["", "careful until x", "clean 3", "running deaths 2", "paused", "careful until -1"])
def test_an_unknown_mark_of_the_scorer_may_be_a_crash(words: str) -> None:
    assert Mark.parse(f"ctr-streamer:{words}") == RUNNING


@pytest.mark.parametrize(
    ("mark", "start", "end", "deaths"),
    [
        (RUNNING, 5, 6, 1),
        (RUNNING, 5, 5, 0),
        (Mark("running", 0, 2, 5), 5, 6, 3),
        (Mark("running", 0, 2, 5), 6, 9, 1),
        (Mark("running", 0, 2, 5), 5, 5, 0),
        (CLEAN, 5, 6, 0),
        (Mark("clean", 0, 2, 5), 5, 6, 2),
        (Mark("clean", 0, 2, 5), 6, 7, 0),
        (Mark("isolated", 9), 5, 9, 0),
        (Mark("isolated", 9, 1, 5), 5, 9, 1),
        (Mark("trying", 9, 0, 5), 5, 9, 1),
        (Mark("trying", 9, 1, 5), 5, 9, 2),
        (Mark("trying", 9, 1, 5), 6, 9, 0),
    ],
    ids=str,
)
def test_deaths_at_an_offset(mark: Mark, start: int, end: int, deaths: int) -> None:
    assert mark.deaths_at(start, end) == deaths
    assert new_detector().open(P, mark, start, end) == deaths


def test_a_partition_that_was_left_clean_is_not_isolated() -> None:
    detector = new_detector()
    detector.open(P, CLEAN, 5, 50)
    assert not detector.isolated
    assert detector.admit(P, 5) == (None, False)
    assert detector.mark(P, 5) == RUNNING
    assert detector.mark(P, 5, leaving=True) == CLEAN


def test_after_a_first_death_records_are_processed_at_full_speed() -> None:
    detector = new_detector()
    assert detector.open(P, RUNNING, 5, 50) == 1
    assert not detector.isolated
    assert detector.admit(P, 5) == (None, False)
    assert detector.mark(P, 5) == Mark("running", 0, 1, 5)
    assert detector.mark(P, 5, leaving=True) == Mark("clean", 0, 1, 5), "the cause may be unread"
    assert detector.mark(P, 6) == RUNNING
    assert detector.mark(P, 6, leaving=True) == CLEAN


def test_after_deaths_at_one_offset_each_record_is_named_before_it_is_processed() -> None:
    detector = new_detector()
    assert detector.open(P, Mark("running", 0, 2, 5), 5, 8) == 3
    assert detector.mark(P, 5) == Mark("isolated", 8)
    assert detector.admit(P, 5) == (Mark("trying", 8, 0, 5), False)
    assert detector.mark(P, 6) == Mark("isolated", 8), "the commit after the record names no record"
    assert detector.admit(P, 7) == (Mark("trying", 8, 0, 7), False)
    assert detector.admit(P, 8) == (RUNNING, False), "it was produced after the last death"
    assert not detector.isolated
    assert detector.admit(P, 9) == (None, False)


def test_a_record_is_suspect_after_several_deaths_alone() -> None:
    detector = new_detector()
    detector.open(P, Mark("trying", 9, 0, 6), 6, 20)
    assert detector.mark(P, 6) == Mark("isolated", 9, 1, 6), "a death before the record is read counts nothing"
    assert detector.admit(P, 6) == (Mark("trying", 9, 1, 6), False)
    assert detector.mark(P, 6, leaving=True) == Mark("isolated", 9, 1, 6)
    detector.open(P, Mark("trying", 9, 1, 6), 6, 20)
    assert detector.admit(P, 6) == (Mark("trying", 9, 2, 6), True)
    assert detector.admit(P, 7) == (Mark("trying", 9, 0, 7), False)
    assert detector.admit(P, 9) == (RUNNING, False), "the first worker had read no further"


def test_isolation_ends_when_nothing_is_left_to_read() -> None:
    died = Mark("running", 0, 2, 5)
    detector = new_detector()
    detector.open(P, died, 5, 5)
    assert not detector.isolated, "no record was unread"
    detector.open(P, died, 5, 8)
    detector.open(Q, died, 5, 8)
    assert not detector.end_isolation(P, 7)
    assert detector.end_isolation(P, 8)
    assert not detector.end_isolation(P, 8)
    assert list(detector.isolated) == [Q]
    detector.forget(Q)
    assert not detector.isolated


def test_isolation_ends_after_the_most_records_that_a_crash_leaves() -> None:
    detector = new_detector(2)
    detector.open(P, Mark("running", 0, 2, 0), 0, 1000)
    assert [detector.admit(P, offset).mark == RUNNING for offset in (0, 3, 4)] == [False, False, True]


@dataclass
class Log:
    """One partition's records and its commit, through the lives of its workers."""

    offsets: Sequence[int]
    committed: int = 0
    metadata: str = str(CLEAN)
    dead: list[int] = field(default_factory=list)
    deaths_alone: dict[int, int] = field(default_factory=dict)
    isolations: int = 0

    @property
    def end(self) -> int:
        return self.offsets[-1] + 1

    def live(self, *, killed_after: int | None, poison: int | None, commit_every: int) -> bool:
        """One worker's life; False if it died.

        It reads records in order, and at full speed commits after each `commit_every` of them. It dies of `poison`, or
        from outside after its step `killed_after`: a step is a commit or a record.
        """
        detector = new_detector(len(self.offsets))
        start = self.committed
        detector.open(P, Mark.parse(self.metadata), start, self.end)
        self.metadata = str(detector.mark(P, start))
        self.isolations += bool(detector.isolated)
        steps = 0

        def dies(alone: int | None = None) -> bool:
            nonlocal steps
            steps += 1
            if killed_after is None or steps <= killed_after:
                return False
            if alone is not None:
                self.deaths_alone[alone] = self.deaths_alone.get(alone, 0) + 1
            return True

        for read, offset in enumerate([o for o in self.offsets if o >= start], start=1):
            mark, is_suspect = detector.admit(P, offset)
            if mark is not None:
                self.committed, self.metadata = offset, str(mark)
            alone = offset if detector.isolated else None
            if dies(alone):
                return False
            if is_suspect:
                self.dead.append(offset)
            elif offset == poison:
                if alone is not None:
                    self.deaths_alone[offset] = self.deaths_alone.get(offset, 0) + 1
                return False
            if detector.isolated or read % commit_every == 0:
                if dies(alone):
                    return False
                self.committed, self.metadata = offset + 1, str(detector.mark(P, offset + 1))
        self.committed, self.metadata = self.end, str(detector.mark(P, self.end, leaving=True))
        return True


OFFSETS = st.lists(st.integers(1, 3), min_size=1, max_size=30).map(
    lambda gaps: [sum(gaps[:i]) for i in range(len(gaps))]
)


@given(offsets=OFFSETS, poison=st.integers(0, 29), commits=st.lists(st.integers(1, 40), min_size=1, max_size=40))
def test_a_poison_record_is_dead_lettered_after_a_bounded_number_of_deaths(
    offsets: list[int], poison: int, commits: list[int]
) -> None:
    """Each position costs at most `deaths_before_isolation` deaths, the record `deaths_before_dead_letter` more.

    A life that commits a higher offset before it dies starts the count again; there can be at most as many as records
    before the poison.
    """
    log = Log(offsets)
    bad = offsets[poison % len(offsets)]
    deaths = moves = 0
    while True:
        before = log.committed
        is_isolated = Mark.parse(log.metadata).is_isolated
        if log.live(killed_after=None, poison=bad, commit_every=commits[deaths % len(commits)]):
            break
        deaths += 1
        moves += not is_isolated and log.isolations == 0 and log.committed > before
        assert deaths <= (moves + 1) * (ISOLATION - 1) + 1 + DEAD_LETTER
    assert log.dead == [bad]
    assert log.deaths_alone == {bad: DEAD_LETTER}
    if moves == 0:
        assert deaths == ISOLATION + DEAD_LETTER


@given(offsets=OFFSETS, kills=st.lists(st.integers(1, 40), max_size=40))
def test_kills_from_outside_with_progress_between_them_isolate_nothing(offsets: list[int], kills: list[int]) -> None:
    log = Log(offsets)
    for kill in kills:
        # Two steps are a record and its commit.
        log.live(killed_after=2 * kill, poison=None, commit_every=1)
    while not log.live(killed_after=2, poison=None, commit_every=1):
        pass
    assert (log.isolations, log.dead, log.committed) == (0, [], log.end)


@given(
    offsets=OFFSETS,
    lives=st.lists(st.tuples(st.integers(0, 12), st.integers(1, 10)), max_size=60),
    poison=st.none() | st.integers(0, 29),
)
def test_a_healthy_record_is_dead_lettered_only_after_deaths_while_it_was_alone(
    offsets: list[int], lives: list[tuple[int, int]], poison: int | None
) -> None:
    log = Log(offsets)
    bad = None if poison is None else offsets[poison % len(offsets)]
    for killed_after, commit_every in lives:
        log.live(killed_after=killed_after, poison=bad, commit_every=commit_every)
    for offset in log.dead:
        assert log.deaths_alone.get(offset, 0) >= DEAD_LETTER
    assert len(set(log.dead)) <= len(log.deaths_alone)
