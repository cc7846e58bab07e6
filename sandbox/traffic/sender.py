"""Sends requests when they are due, however slow the answers are (open loop)."""

import threading
import time
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from sandbox.errors import SandboxError
from sandbox.traffic.schedule import MEAN_BURST, Arrival, arrival_times, run_schedule
from sandbox.traffic.sent_requests import SentRequests
from sandbox.world.bid_requests import BidRecord

_RETRY_S = 0.002
_ANSWER_S = 60.0
_RECONNECT_MS = 1000  # the default is 10 s, too long after an outage
_LAG_SAMPLES = 100_000


class SenderError(SandboxError):
    """The sender waits for answers, and none arrives."""


class RequestSource(Protocol):
    """A source of requests."""

    def next(self) -> BidRecord: ...


@dataclass(frozen=True, slots=True)
class SendReport:
    """Figures of the sending.

    Attributes:
        sent: number of requests passed to the producer; undelivered: those that the broker did not accept.
        errors: counts of the first 20 errors, by text.
        lag_ms: delay of each request against its schedule, float64, of the latest 100,000. The sender causes it, not
            the scorer.
        seconds: from the first to the last send.
    """

    sent: int
    undelivered: int
    errors: dict[str, int]
    lag_ms: np.ndarray[Any, np.dtype[np.float64]]
    seconds: float


class Sender:
    """Produces requests on schedule from its own thread.

    - Each request is added to `sent_requests` immediately before it is produced.
    - The producer's queue is bounded (`queue_mb`). If it is full, the sender waits and skips nothing; the report shows
      the lag.
    - With `max_unanswered`, it also waits while so many requests have no answer: for brokers that keep few records.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        source: RequestSource,
        *,
        rate: float,
        seconds: float,
        arrival: Arrival = "poisson",
        sent_requests: SentRequests,
        seed: int = 0,
        burst: float = MEAN_BURST,
        queue_mb: int = 256,
        close_s: float = 10.0,
        max_unanswered: int | None = None,
        config: dict[str, Any] | None = None,
    ) -> None:
        self._topic, self._source, self._sent_requests, self._close_s = topic, source, sent_requests, close_s
        self._dues = arrival_times(rate, seconds, arrival, np.random.default_rng(seed), burst=burst)
        self._max_unanswered = max_unanswered
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
                # Without it a retry of the producer could duplicate a request, which looks like a duplicate answer.
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
        """Starts to send; time 0 of the schedule is now."""
        self._thread.start()

    def stop(self) -> None:
        """Stops sending; returns immediately."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Waits until all requests are sent and acknowledged; returns False after `timeout_s`.

        Raises:
            Exception: the error that ended the sending thread.
        """
        self._thread.join(timeout_s)
        if self._failure is not None:
            raise self._failure
        return not self._thread.is_alive()

    def report(self) -> SendReport:
        """The figures until now."""
        lag = self._lags[: min(self._sent, _LAG_SAMPLES)].copy()
        return SendReport(
            self._sent, self._sent_requests.undelivered, dict(self._errors), lag, self._last - self._first
        )

    def _run(self) -> None:
        upcoming = self._source.next()  # built before it is due, so that building it does not delay it

        def send(due: float) -> None:
            nonlocal upcoming
            self._send(upcoming, due)
            upcoming = self._source.next()

        try:
            run_schedule(self._dues, send, clock=time.monotonic, wait=self._stop.wait)
        except Exception as error:  # noqa: BLE001 - `join` raises it
            self._failure = error
        finally:
            left = self._producer.flush(self._close_s)
            if left:
                self._count(f"{left} requests not acknowledged within {self._close_s} s", left)
                # Each callback marks its request as undelivered.
                self._producer.purge()
                self._producer.flush(self._close_s)

    def _send(self, record: BidRecord, due: float) -> None:
        if self._max_unanswered is not None:
            self._wait_for_answers(self._max_unanswered)

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is None:
                delay_s = time.monotonic() - sent_at
                self._sent_requests.delivered(record.request_id, message.partition() or 0, sent_at, delay_s)
            else:
                self._sent_requests.delivery_failed(record.request_id)
                self._count(error.str(), 1)

        sent_at = time.monotonic()
        self._sent_requests.add(record, sent_at, due)
        while True:
            try:
                self._producer.produce(
                    self._topic, record.value, record.key, headers=record.headers, on_delivery=delivered
                )
                break
            except BufferError:
                self._producer.poll(_RETRY_S)
                if self._stop.is_set():
                    self._sent_requests.delivery_failed(record.request_id)
                    return
            except KafkaException as error:
                self._sent_requests.delivery_failed(record.request_id)
                self._count(str(error), 1)
                break
        self._last = time.monotonic()
        self._first = self._first or self._last
        self._lags[self._sent % _LAG_SAMPLES] = (self._last - due) * 1_000.0
        self._sent += 1
        self._producer.poll(0)

    def _wait_for_answers(self, most: int) -> None:
        started = time.monotonic()
        while self._sent_requests.unanswered >= most and not self._stop.is_set():
            self._producer.poll(_RETRY_S)
            if time.monotonic() - started > _ANSWER_S:
                raise SenderError(f"{most} requests have no answer after {_ANSWER_S:.0f} s, so no more are sent")

    def _count(self, reason: str, by: int) -> None:
        if reason in self._errors or len(self._errors) < 20:
            self._errors[reason] = self._errors.get(reason, 0) + by
