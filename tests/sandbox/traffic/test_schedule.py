"""The schedule of the sender."""

from itertools import islice

import numpy as np
import pytest

from sandbox.traffic.schedule import Arrival, arrival_times, run_schedule

_ARRIVALS: tuple[Arrival, ...] = ("poisson", "bursts", "uniform")


def _times(
    rate: float, seconds: float, arrival: Arrival, seed: int = 0
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array(list(arrival_times(rate, seconds, arrival, np.random.default_rng(seed))))


class _Clock:
    """Time that passes only during waits and work."""

    def __init__(self, stop_at: float = float("inf")) -> None:
        self.now = 100.0
        self._stop_at = 100.0 + stop_at

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return self.now >= self._stop_at


@pytest.mark.parametrize("arrival", _ARRIVALS)
def test_arrivals_have_the_rate_and_are_ordered(arrival: Arrival) -> None:
    times = _times(200.0, 100.0, arrival)
    assert np.all(np.diff(times) >= 0)
    assert times[0] >= 0
    assert times[-1] < 100.0
    assert len(times) == pytest.approx(20_000, rel=0.08)


def test_arrivals_have_the_variation_of_their_process() -> None:
    """Requests per 0.1 s: constant if uniform, else Poisson's variance, or that of bursts."""
    ratios = {}
    for arrival in _ARRIVALS:
        counts = np.histogram(_times(200.0, 200.0, arrival), bins=2_000, range=(0.0, 200.0))[0]
        ratios[arrival] = counts.var() / counts.mean()
    assert ratios["uniform"] < 0.1
    assert 0.85 < ratios["poisson"] < 1.15
    assert 10 < ratios["bursts"] < 20  # 2 x 8 - 1 = 15 for geometric bursts


def test_arrivals_are_reproducible_by_seed_and_can_be_endless() -> None:
    assert np.array_equal(_times(50.0, 10.0, "poisson"), _times(50.0, 10.0, "poisson"))
    assert not np.array_equal(_times(50.0, 10.0, "poisson"), _times(50.0, 10.0, "poisson", seed=1))
    endless = arrival_times(1000.0, 0, "poisson", np.random.default_rng(0))
    assert len(list(islice(endless, 5_000))) == 5_000


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_an_invalid_rate_is_rejected(rate: float) -> None:
    with pytest.raises(ValueError, match="rate above 0"):
        arrival_times(rate, 1.0, "poisson", np.random.default_rng(0))


def test_requests_are_sent_when_due() -> None:
    clock = _Clock()
    sent: list[tuple[float, float]] = []
    run_schedule(iter([0.5, 0.5, 2.0]), lambda due: sent.append((due, clock.now)), clock=clock, wait=clock.wait)
    assert sent == [(100.5, 100.5), (100.5, 100.5), (102.0, 102.0)]


def test_a_stall_neither_skips_nor_shifts_the_schedule() -> None:
    """Requests due during a stall are sent right after it; then the schedule continues."""
    clock = _Clock()
    sent: list[float] = []

    def send(_: float) -> None:
        sent.append(clock.now)
        if len(sent) == 2:
            clock.now += 3.5

    run_schedule(iter([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), send, clock=clock, wait=clock.wait)
    assert sent == [101.0, 102.0, 105.5, 105.5, 105.5, 106.0]


def test_the_schedule_ends_on_request() -> None:
    clock = _Clock(stop_at=10.5)
    sent: list[float] = []
    endless = arrival_times(1.0, 0, "uniform", np.random.default_rng(0))
    run_schedule(endless, sent.append, clock=clock, wait=clock.wait)
    assert len(sent) == 11
