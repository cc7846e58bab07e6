"""Restarts of processes."""

import hypothesis.strategies as st
from hypothesis import given

from streamer.settings.deployment import SupervisorSettings
from streamer.supervision.restarts import Restarts
from streamer.supervision.slots import Slots


def _restarts(**settings: object) -> Restarts:
    return Restarts(SupervisorSettings.model_validate({"restart_pause_ms": 500.0, **settings}))


def test_the_pause_doubles_until_a_process_was_ready() -> None:
    restarts = _restarts(max_restarts=10)
    assert [restarts.ended(0.0, was_ready=False) for _ in range(4)] == [0.5, 1.0, 2.0, 4.0]
    assert restarts.ended(0.0, was_ready=True) == 0.5
    assert restarts.not_before == 0.5


def test_the_pause_is_at_most_one_minute() -> None:
    restarts = _restarts(max_restarts=100_000)
    pauses = [restarts.ended(0.0, was_ready=False) for _ in range(3000)]
    assert pauses[6:9] == [32.0, 60.0, 60.0]
    assert pauses[-1] == 60.0


def test_a_longer_setting_is_the_pause() -> None:
    restarts = _restarts(restart_pause_ms=90_000.0)
    assert [restarts.ended(0.0, was_ready=False) for _ in range(2)] == [90.0, 90.0]


def test_ends_outside_the_window_do_not_count() -> None:
    restarts = _restarts(max_restarts=1, restart_window_s=10.0)
    assert restarts.ended(0.0, was_ready=True) is not None
    assert restarts.ended(10.1, was_ready=True) is not None
    assert restarts.ended(20.0, was_ready=True) is None


@given(st.lists(st.tuples(st.floats(0.0, 50.0), st.booleans()), max_size=30), st.integers(0, 5))
def test_at_most_max_restarts_within_the_window(ends: list[tuple[float, bool]], most: int) -> None:
    restarts = _restarts(max_restarts=most, restart_window_s=100.0)
    now, times = 0.0, list[float]()
    for wait, was_ready in ends:
        now += wait
        times.append(now)
        recent = sum(time >= now - 100.0 for time in times)
        assert (restarts.ended(now, was_ready) is None) == (recent > most)


def _slots() -> Slots:
    return Slots(SupervisorSettings.model_validate({"workers": 2, "standby": 1, "restart_pause_ms": 1000.0}))


def test_no_other_number_starts_in_the_place_of_one_that_rests() -> None:
    slots = _slots()
    slots.ended(0, 10.0, was_ready=True)
    assert slots.startable([1, 2], 10.5, is_replacing=False) == []
    assert slots.due(10.5) == [11.0]
    assert slots.startable([1, 2], 11.0, is_replacing=False) == [0]


def test_one_more_may_start_while_processes_are_replaced() -> None:
    assert _slots().startable([0, 1, 2], 10.0, is_replacing=True) == [3]
    assert _slots().startable([0, 1, 2], 10.0, is_replacing=False) == []


def test_a_number_that_nobody_misses_does_not_rest() -> None:
    slots = _slots()
    slots.ended(3, 10.0, was_ready=False)
    slots.rest_if_needed(3, [0, 1, 2], 10.0, is_replacing=False)
    assert slots.due(10.0) == []
    slots.ended(0, 10.0, was_ready=True)
    slots.rest_if_needed(0, [1, 2], 10.0, is_replacing=False)
    assert slots.due(10.0) == [11.0]


def test_the_missing_numbers_are_those_that_ended_last() -> None:
    slots = _slots()
    slots.ended(3, 10.0, was_ready=True)
    assert slots.missing([0, 2]) == [3]
    assert slots.missing([0, 1, 2]) == []
