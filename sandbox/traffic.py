"""Open-loop bidders: requests leave when they are due, however slow the answers are."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from sandbox.ledger import Ledger
from sandbox.requests import BidRecord

Arrival = Literal["poisson", "bursts", "uniform"]

_GAPS = 1_024
_BURST_MEAN = 8.0
_RETRY_S = 0.002
_RECONNECT_MS = 1000  # 10 s otherwise, after an outage
_LAG_SAMPLES = 100_000


class Factory(Protocol):
    """Where requests come from."""

    def next(self) -> BidRecord: ...


def arrival_times(
    rate: float, seconds: float, arrival: Arrival, rng: np.random.Generator, *, burst: float = _BURST_MEAN
) -> Iterator[float]:
    """Due times in seconds from the start, ascending; `seconds` 0 means without end.

    `poisson` has exponential gaps, `uniform` equal ones; `bursts` are Poisson moments at which a geometric number of
    requests, `burst` on average, is due at once. All have the same mean rate, in requests a second.

    Raises:
        ValueError: the rate is not positive, or a burst below 1.
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


@dataclass(frozen=True, slots=True)
class SendReport:
    """How the sending went.

    Attributes:
        sent: requests handed to the producer; refused: those that the broker did not take.
        errors: the first reasons, by text, with counts.
        lag_ms: how late requests left against their schedule, float64, of the latest 100,000; what is large here is
            the sender's own fault, not the scorer's.
        seconds: from the first to the last send.
    """

    sent: int
    refused: int
    errors: dict[str, int]
    lag_ms: np.ndarray[Any, np.dtype[np.float64]]
    seconds: float


def run_schedule(
    dues: Iterator[float],
    send: Callable[[float], None],
    *,
    clock: Callable[[], float],
    wait: Callable[[float], bool],
) -> None:
    """Calls `send(due)` for each due time, never before it; a late one goes at once, none is skipped.

    Args:
        dues: due times, seconds from now.
        clock: monotonic seconds.
        wait: waits that many seconds, or returns True earlier when all shall end.
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


class Traffic:
    """Produces requests on schedule from its own thread.

    What is sent is noted in `ledger` right before it is produced. The producer's queue is bounded (`queue_mb`): when it
    is full, the sender waits, its lag shows in the report, and nothing is skipped.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        factory: Factory,
        *,
        rate: float,
        seconds: float,
        arrival: Arrival = "poisson",
        ledger: Ledger,
        seed: int = 0,
        burst: float = _BURST_MEAN,
        queue_mb: int = 256,
        close_s: float = 10.0,
        config: dict[str, Any] | None = None,
    ) -> None:
        self._topic, self._factory, self._ledger, self._close_s = topic, factory, ledger, close_s
        self._dues = arrival_times(rate, seconds, arrival, np.random.default_rng(seed), burst=burst)
        self._errors: dict[str, int] = {}
        self._lags = np.zeros(_LAG_SAMPLES)
        self._sent = 0
        self._first = self._last = 0.0
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "partitioner": "murmur2_random",
                "linger.ms": 0,
                "acks": "all",
                # A request that the sender itself repeats would be answered twice, and the scorer blamed for it.
                "enable.idempotence": True,
                "reconnect.backoff.max.ms": _RECONNECT_MS,
                "message.max.bytes": 8 << 20,
                "queue.buffering.max.kbytes": queue_mb << 10,
                "log_level": 2,
                **(config or {}),
            }
        )
        self._thread = threading.Thread(target=self._run, name=f"traffic to {topic}", daemon=True)

    def start(self) -> None:
        """Starts sending; time 0 of the schedule is now."""
        self._thread.start()

    def stop(self) -> None:
        """Sends no more; returns at once."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Waits until everything has been sent and acknowledged; False where that is not yet so.

        Raises:
            Exception: what ended the sending thread before its time.
        """
        self._thread.join(timeout_s)
        if self._failure is not None:
            raise self._failure
        return not self._thread.is_alive()

    def report(self) -> SendReport:
        """The figures so far."""
        lag = self._lags[: min(self._sent, _LAG_SAMPLES)].copy()
        return SendReport(self._sent, self._ledger.refused, dict(self._errors), lag, self._last - self._first)

    def _run(self) -> None:
        upcoming = self._factory.next()  # built ahead, so that building it does not delay it

        def send(due: float) -> None:
            nonlocal upcoming
            self._send(upcoming, due)
            upcoming = self._factory.next()

        try:
            run_schedule(self._dues, send, clock=time.monotonic, wait=self._stop.wait)
        except Exception as error:  # noqa: BLE001 - handed to whoever joins
            self._failure = error
        finally:
            left = self._producer.flush(self._close_s)
            if left:
                self._count(f"{left} requests not acknowledged within {self._close_s} s", left)
                # Nobody owes them an answer: each is refused by its own callback.
                self._producer.purge()
                self._producer.flush(self._close_s)

    def _send(self, record: BidRecord, due: float) -> None:
        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                self._ledger.refuse(record.request_id)
                self._count(error.str(), 1)

        self._ledger.record(record, time.monotonic())
        while True:
            try:
                self._producer.produce(
                    self._topic, record.value, record.key, headers=record.headers, on_delivery=delivered
                )
                break
            except BufferError:
                self._producer.poll(_RETRY_S)
                if self._stop.is_set():
                    self._ledger.refuse(record.request_id)
                    return
            except KafkaException as error:
                self._ledger.refuse(record.request_id)
                self._count(str(error), 1)
                break
        self._last = time.monotonic()
        self._first = self._first or self._last
        self._lags[self._sent % _LAG_SAMPLES] = (self._last - due) * 1_000.0
        self._sent += 1
        self._producer.poll(0)

    def _count(self, reason: str, by: int) -> None:
        if reason in self._errors or len(self._errors) < 20:
            self._errors[reason] = self._errors.get(reason, 0) + by
