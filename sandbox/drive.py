"""Open-loop traffic through a running scorer, every answer checked."""

import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from sandbox.checker import Checker
from sandbox.ledger import Ledger
from sandbox.ranker import Ranker, TrafficReport
from sandbox.traffic import Factory, Traffic
from sandbox.world import World

Progress = Callable[[float, int, int], None]
"""Is told the seconds since the start, the requests sent and those answered."""


class Requests(Factory, Protocol):
    """Requests of a world."""

    @property
    def world(self) -> World: ...


_EVERY_S = 5.0
_SETTLE_S = 30.0
# After an outage that lasts to the end of the traffic, the broker has to take what has piled up.
_CLOSE_S = 120.0


class Topics(NamedTuple):
    """The scorer's topics."""

    requests: str
    scores: str
    dead_letters: str


def drive(
    bootstrap: str,
    topics: Topics,
    factory: Requests,
    *,
    rate: float,
    seconds: float,
    progress: Progress | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> TrafficReport:
    """Sends `rate` requests a second for `seconds`, then waits for the missing answers until none has come for 30 s.

    With `meanwhile`, requests are sent until it has returned, whatever `seconds` says.

    Raises:
        RankerError: the answers cannot be read.
        Exception: what `meanwhile` raises.
    """
    ledger = Ledger()
    checker = Checker(ledger, factory.world.ads.ids)
    ranker = Ranker(bootstrap, topics.scores, checker, ledger, dead_letters=topics.dead_letters)
    ranker.start()
    lasting = seconds if meanwhile is None else 0.0  # 0: until it is stopped
    traffic = Traffic(bootstrap, topics.requests, factory, rate=rate, seconds=lasting, ledger=ledger, close_s=_CLOSE_S)
    started = time.monotonic()
    traffic.start()
    try:
        if meanwhile is not None:
            meanwhile()
            traffic.stop()
        while not traffic.join(_EVERY_S):
            if progress is not None:
                progress(time.monotonic() - started, ledger.sent, checker.answered)
        answered = -1
        while not ranker.wait_for_answers(_SETTLE_S) and checker.answered > answered:
            answered = checker.answered
    finally:
        traffic.stop()
        traffic.join(_EVERY_S)
        ranker.close()
    return ranker.report()
