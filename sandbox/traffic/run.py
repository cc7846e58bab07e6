"""Sends open-loop traffic through a running scorer and checks every answer."""

import time
from collections.abc import Callable
from typing import Protocol

from sandbox.broker.topics import Topics
from sandbox.traffic.checker import Checker
from sandbox.traffic.ranker import Ranker
from sandbox.traffic.report import TrafficReport
from sandbox.traffic.sender import RequestSource, Sender
from sandbox.traffic.sent_requests import SentRequests
from sandbox.world.world import World

Progress = Callable[[float, int, int], None]
"""Receives the seconds since the start, the number of sent requests and the number of answered requests."""
_PROGRESS_S = 5.0
_SETTLE_S = 30.0
# After an outage that lasts to the end of the traffic, the broker must accept the backlog of the producer.
_CLOSE_S = 120.0


class WorldRequests(RequestSource, Protocol):
    """A source of requests of one world."""

    @property
    def world(self) -> World: ...


def run_traffic(
    bootstrap: str,
    topics: Topics,
    source: WorldRequests,
    *,
    rate: float,
    seconds: float,
    progress: Progress | None = None,
    meanwhile: Callable[[], None] | None = None,
    checker: Checker | None = None,
    max_unanswered: int | None = None,
    fetch_wait_ms: int = 100,
) -> TrafficReport:
    """Sends `rate` requests/s for `seconds`, then waits until no answer arrives for 30 s.

    With `meanwhile`, requests are sent until it returns; `seconds` has no effect. `checker` replaces the
    checker of this call; `max_unanswered` is that of the sender, `fetch_wait_ms` that of the ranker.

    Raises:
        RankerError: the answers cannot be read.
        SenderError: `max_unanswered` requests have no answer.
        Exception: the error that `meanwhile` raises.
    """
    checker = checker or Checker(SentRequests(), source.world.ads.ids)
    sent = checker.sent_requests
    dead = topics.dead_letters
    ranker = Ranker(bootstrap, topics.scores, checker, sent, dead_letters=dead, fetch_wait_ms=fetch_wait_ms)
    ranker.start()
    duration = seconds if meanwhile is None else 0.0  # 0: until `stop`
    sender = Sender(
        bootstrap,
        topics.requests,
        source,
        rate=rate,
        seconds=duration,
        sent_requests=sent,
        close_s=_CLOSE_S,
        max_unanswered=max_unanswered,
    )
    started = time.monotonic()
    sender.start()
    try:
        if meanwhile is not None:
            meanwhile()
            sender.stop()
        while not sender.join(_PROGRESS_S):
            if progress is not None:
                progress(time.monotonic() - started, sent.sent, checker.answered)
        answered = -1
        while not ranker.wait_for_answers(_SETTLE_S) and checker.answered > answered:
            answered = checker.answered
    finally:
        sender.stop()
        sender.join(_PROGRESS_S)
        ranker.close()
    return ranker.report()
