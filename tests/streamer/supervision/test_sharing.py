"""Shares of partitions."""

import hypothesis.strategies as st
from hypothesis import given

from streamer.supervision.sharing import share, surplus
from streamer.supervision.suspects import isolating
from streamer.types import Partition
from tests.streamer.supervision.machine import topic

_HELD = st.lists(st.integers(0, 8), min_size=1, max_size=6)


def _held(counts: list[int]) -> dict[int, set[Partition]]:
    first, held = 0, {}
    for number, count in enumerate(counts):
        held[number] = set(topic(*range(first, first + count)))
        first += count
    return held


def test_partitions_return_to_their_last_worker() -> None:
    last = {("t", 0): 1, ("t", 1): 1, ("t", 2): 0, ("t", 3): 0}
    assert share(last, {0: 0, 1: 0}, last) == {0: topic(2, 3), 1: topic(0, 1)}


def test_a_worker_that_had_too_many_gets_its_fair_share_back() -> None:
    last = dict.fromkeys(topic(0, 1, 2, 3), 0)
    found = share(last, {0: 0, 1: 0}, last)
    assert sorted(len(partitions) for partitions in found.values()) == [2, 2]


@given(
    loads=st.dictionaries(st.integers(0, 5), st.integers(0, 6), min_size=1),
    last=st.dictionaries(st.sampled_from(sorted(topic(*range(12)))), st.integers(0, 7)),
    free=st.sets(st.sampled_from(sorted(topic(*range(12))))),
)
def test_each_partition_goes_to_one_worker_and_the_least_loaded_ones_come_first(
    loads: dict[int, int], last: dict[Partition, int], free: set[Partition]
) -> None:
    found = share(free, loads, last)
    given_away = [partition for partitions in found.values() for partition in partitions]
    assert sorted(given_away) == sorted(free)
    after = {number: load + len(found.get(number, ())) for number, load in loads.items()}
    for number in found:
        assert after[number] <= min(after.values()) + 1


@given(_HELD)
def test_repeated_moves_end_with_equal_shares_and_no_partition_returns(counts: list[int]) -> None:
    held = _held(counts)
    last = {partition: number for number, partitions in held.items() for partition in partitions}
    moved = 0
    while move := surplus(held):
        number, going = move
        held[number] -= going
        moved += len(going)
        found = share(going, {n: len(partitions) for n, partitions in held.items()}, last)
        assert number not in found, "released and given back"
        for other, partitions in found.items():
            held[other] |= partitions
            last |= dict.fromkeys(partitions, other)
    sizes = [len(partitions) for partitions in held.values()]
    assert max(sizes) - min(sizes) <= 1
    fair = sum(counts) // len(counts)
    assert moved <= sum(max(0, count - fair) for count in counts)


def test_nothing_moves_between_equal_workers() -> None:
    assert surplus({}) is None
    assert surplus({0: topic(1), 1: topic(2, 3)}) is None


@given(_HELD, st.sets(st.integers(0, 47)))
def test_suspects_and_healthy_partitions_have_workers_of_their_own(counts: list[int], numbers: set[int]) -> None:
    held = _held(counts)
    everything = frozenset().union(*held.values())
    suspects = topic(*numbers) & everything
    found = isolating(held, suspects, everything - suspects)
    assert found <= held.keys()
    if not suspects:
        assert not found
    elif suspects == everything:
        assert found == held.keys()
    else:
        assert bool(found) == (len(held) > 1)
        assert found < held.keys()


def test_the_worker_with_the_fewest_healthy_partitions_becomes_the_suspects_one() -> None:
    held = {0: topic(0, 1), 1: topic(2, 3, 4), 2: topic(5, 6)}
    assert isolating(held, topic(0, 2), topic(1, 3, 4, 5, 6)) == {0}


def test_a_worker_that_has_suspects_only_keeps_them() -> None:
    held = {0: topic(0, 1), 1: topic(2), 2: frozenset[Partition]()}
    assert isolating(held, topic(2), topic(0, 1)) == {1}
