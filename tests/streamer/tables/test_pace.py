"""The size of slices follows their time; a busy loop gives the table a small part of its time."""

from hypothesis import given
from hypothesis import strategies as st

from streamer.tables.pace import MAX_SLICE_S, Pace


@given(st.floats(0, 0.0005), st.floats(1e-7, 0.0001), st.lists(st.integers(1, 2000), max_size=30))
def test_slices_of_rows_of_one_cost_are_short_after_the_first_full_one(
    fixed_s: float, row_s: float, waiting: list[int]
) -> None:
    pace = Pace()
    for number, records in enumerate([2000, *waiting]):
        rows = min(records, pace.rows)
        seconds = fixed_s + rows * row_s
        assert number == 0 or seconds <= MAX_SLICE_S or rows <= 8, "the smallest slice"
        pace.took(rows, seconds)


def test_slices_grow_to_the_time_that_they_may_take() -> None:
    pace = Pace()
    for _ in range(10):
        pace.took(pace.rows, 0.0002 + 5e-6 * pace.rows)
    assert 0.0011 < 0.0002 + 5e-6 * pace.rows < 0.0013


def test_slices_are_long_until_a_version_is_scored() -> None:
    pace = Pace(is_alone=True)
    for _ in range(10):
        pace.took(pace.rows, 0.0002 + 2e-5 * pace.rows)
    assert 0.009 < 0.0002 + 2e-5 * pace.rows < 0.011
    pace.resumed(1.0)
    assert pace.pause_s(0.01) == 0
    pace.serve()
    assert 0.0002 + 2e-5 * pace.rows <= MAX_SLICE_S


def test_a_few_rows_say_nothing_about_many() -> None:
    pace = Pace(rows=200)
    pace.took(1, 0.0003)
    assert pace.rows == 200


@given(st.floats(0, 0.005), st.floats(0, 0.1))
def test_a_busy_loop_gives_a_fifth_of_its_time_and_an_idle_one_all(slice_s: float, late_s: float) -> None:
    pace = Pace()
    pace.resumed(late_s)
    pause_s = pace.pause_s(slice_s)
    if late_s <= 0.001:
        assert pause_s == 0
    else:
        assert pause_s == min(4 * slice_s, 0.02)
        assert slice_s <= 0.2 * (slice_s + pause_s) + 1e-9
