"""Due times of requests, and calls at those times.

Pure except for the functions that the caller passes.
"""

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

Arrival = Literal["poisson", "bursts", "uniform"]
MEAN_BURST = 8.0
_GAPS = 1_024


def arrival_times(
    rate: float, seconds: float, arrival: Arrival, rng: np.random.Generator, *, burst: float = MEAN_BURST
) -> Iterator[float]:
    """Due times in seconds from the start, ascending; they never end if `seconds` is 0.

    `poisson` has exponential gaps and `uniform` equal gaps. `bursts` is a Poisson process of moments; at each moment a
    geometric number of requests, `burst` on average, is due. All have the same mean rate, in requests per second.

    Raises:
        ValueError: the rate is not positive, or the burst is below 1.
    """
    if not rate > 0 or burst < 1:
        raise ValueError(f"rate {rate} and burst {burst}: expected a rate above 0 and a burst of at least 1")
    return _arrivals(rate, seconds, arrival, rng, burst)


def _arrivals(rate: float, seconds: float, arrival: Arrival, rng: np.random.Generator, burst: float) -> Iterator[float]:
    now, count = 0.0, 0
    while True:
        if arrival == "uniform":
            times = np.arange(count, count + _GAPS) / rate
            count += _GAPS
        elif arrival == "poisson":
            times = now + rng.exponential(1.0 / rate, _GAPS).cumsum()
        else:
            times = now + rng.exponential(burst / rate, _GAPS).cumsum()
        now = float(times[-1])
        if arrival == "bursts":
            times = times.repeat(rng.geometric(1.0 / burst, _GAPS))
        for due in times.tolist():
            if seconds and due >= seconds:
                return
            yield due


def run_schedule(
    dues: Iterator[float],
    send: Callable[[float], None],
    *,
    clock: Callable[[], float],
    wait: Callable[[float], bool],
) -> None:
    """Calls `send(due)` for each due time: never earlier, and if it is late, immediately.

    No due time is skipped.

    Args:
        dues: due times, seconds from now.
        clock: monotonic seconds.
        wait: waits that many seconds; returns True earlier if the schedule must end.
    """
    start = clock()
    for offset in dues:
        due = start + offset
        while (left := due - clock()) > 0:
            if wait(left):
                return
        if wait(0.0):
            return
        send(due)
