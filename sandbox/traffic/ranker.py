"""The consumer of scores: passes every answer to the checker, and reports."""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from sandbox.errors import SandboxError
from sandbox.traffic.checker import Checker
from sandbox.traffic.dead_letters import reason_of, request_id_of
from sandbox.traffic.report import TrafficReport, report_of
from sandbox.traffic.sent_requests import SentRequests

_POLL_S = 0.1
_METADATA_S = 60.0


class RankerError(SandboxError):
    """A topic cannot be read; the message has its name and the reason."""


class Ranker:
    """Consumes answers in its own thread from its own position, without a consumer group.

    It reads every answer that is produced after `start` has returned; with `begin="beginning"`, earlier answers too.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        checker: Checker,
        sent_requests: SentRequests,
        *,
        begin: Literal["end", "beginning"] = "end",
        dead_letters: str | None = None,
        fetch_wait_ms: int = 100,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self._topic, self._dead_topic, self._begin = topic, dead_letters, begin
        self._checker, self._sent_requests = checker, sent_requests
        self._dead_letters = 0
        self._dead_reasons: Counter[str] = Counter()
        self._stop, self._changed = threading.Event(), threading.Condition()
        self._failure: Exception | None = None
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"ranker-{topic}",  # librdkafka requires one; no group is joined
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "fetch.wait.max.ms": fetch_wait_ms,
                "reconnect.backoff.max.ms": 1000,  # the default is 10 s, too long after an outage
                "fetch.message.max.bytes": 16 << 20,
                "queued.max.messages.kbytes": 65_536,
                "log_level": 2,
                **(config or {}),
            }
        )
        self._thread = threading.Thread(target=self._run, name=f"ranker of {topic}", daemon=True)

    def start(self) -> None:
        """Determines the start position, then starts to read.

        Raises:
            RankerError: a topic does not exist, or the broker does not answer.
        """
        topics = [self._topic] if self._dead_topic is None else [self._topic, self._dead_topic]
        self._consumer.assign([position for topic in topics for position in self._positions(topic)])
        self._thread.start()

    def wait_for_answers(self, timeout_s: float) -> bool:
        """Waits until every sent request has its answer; returns False after `timeout_s`.

        Raises:
            RankerError: a read failed.
        """
        with self._changed:
            done = self._changed.wait_for(lambda: self._failure or not self._sent_requests.unanswered, timeout_s)
        if self._failure is not None:
            raise RankerError(f"reading {self._topic} failed: {self._failure}") from self._failure
        return bool(done)

    def close(self, timeout_s: float = 10.0) -> None:
        """Stops reading and disconnects; may be called again."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._consumer.close()

    def report(self) -> TrafficReport:
        """The report until now.

        Final after `close`; before, its counts may differ from each other by one answer.
        """
        dead = None if self._dead_topic is None else self._dead_letters
        return report_of(self._checker, self._sent_requests, dead, self._dead_reasons)

    def _positions(self, topic: str) -> list[TopicPartition]:
        try:
            described = self._consumer.list_topics(topic, timeout=_METADATA_S).topics[topic]
            if described.error is not None:
                raise RankerError(f"topic {topic}: {described.error.str()}")
            if self._begin == "beginning":
                return [TopicPartition(topic, p, OFFSET_BEGINNING) for p in described.partitions]
            ends = (
                (p, self._consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=_METADATA_S)[1])
                for p in described.partitions
            )
            return [TopicPartition(topic, p, end) for p, end in ends]
        except KafkaException as error:
            raise RankerError(f"topic {topic}: {error.args[0]}") from error

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                message = self._consumer.poll(_POLL_S)
                if message is not None:
                    self._receive(message, time.monotonic())
        except Exception as error:  # noqa: BLE001 - `wait_for_answers` raises it
            self._failure = error
        with self._changed:
            self._changed.notify_all()

    def _receive(self, message: Message, now: float) -> None:
        error = message.error()
        if error is not None:
            if error.fatal():
                raise KafkaException(error)
            return  # librdkafka retries the others
        if message.topic() == self._topic:
            self._checker.check(message.value() or b"", now)
        else:
            self._dead_letters += 1
            if (request_id := request_id_of(message)) is not None:
                self._sent_requests.dead_letter(request_id)
            if len(self._dead_reasons) < 100:
                self._dead_reasons[reason_of(message)] += 1
        with self._changed:
            self._changed.notify_all()
