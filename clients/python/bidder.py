"""A bidder: sends requests to the scorer, and waits for their answers.

python clients/python/bidder.py COUNT

KAFKA_BROKERS, REQUEST_TOPIC, ANSWER_TOPIC and DEADLINE_MS replace the defaults. Needs confluent-kafka.
"""

import json
import os
import sys
import threading
import time
import uuid
from concurrent.futures import Future
from typing import Any, Self

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

BROKERS = os.environ.get("KAFKA_BROKERS", "localhost:9092")
REQUESTS = os.environ.get("REQUEST_TOPIC", "bid-requests")
ANSWERS = os.environ.get("ANSWER_TOPIC", "ctr-scores")
DEADLINE_MS = int(os.environ.get("DEADLINE_MS", "30"))
WAY_BACK_MS = 10  # after the deadline, an answer may still be on its way


class Bidder:
    """Requests and their answers. One object for the process; its methods are thread-safe."""

    def __init__(self) -> None:
        self._waiting: dict[str, Future[dict[str, Any]]] = {}
        self._producer = Producer(
            {
                "bootstrap.servers": BROKERS,
                "partitioner": "murmur2_random",  # that of Kafka's own clients; librdkafka has another default
                "linger.ms": 0,
                "compression.type": "lz4",
                "delivery.timeout.ms": 10_000,
            }
        )
        self._consumer = Consumer(
            {
                "bootstrap.servers": BROKERS,
                "group.id": "bidder",  # librdkafka wants a name; `assign` joins no group
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
            }
        )
        topic = self._consumer.list_topics(ANSWERS, timeout=30).topics[ANSWERS]
        # Its own positions: each bidder needs the answers to its own requests, so it reads all partitions.
        places = [TopicPartition(ANSWERS, number) for number in topic.partitions]
        for place in places:
            place.offset = self._consumer.get_watermark_offsets(place, timeout=30)[1]
        self._consumer.assign(places)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def score(self, user: str, candidates: dict[str, list[Any]]) -> "Future[dict[str, Any]]":
        """Sends a request; the answer's future fails if the brokers do not take the request."""
        request_id = str(uuid.uuid4())
        answer: Future[dict[str, Any]] = Future()
        self._waiting[request_id] = answer
        answer.add_done_callback(lambda _: self._waiting.pop(request_id, None))

        def delivered(error: KafkaError | None, record: Message) -> None:
            if error is not None:
                if (failed := self._taken(request_id)) is not None:
                    failed.set_exception(RuntimeError(error.str()))
            else:
                print(json.dumps({"request_id": request_id, "user": user, "partition": record.partition()}))

        request = {"user": {"id": user}, "context": {"hour": time.gmtime().tm_hour}, "candidates": candidates}
        headers = {
            "request_id": request_id,
            "deadline_ms": str(DEADLINE_MS),
            "content-type": "application/json",
            "sent_at_ms": str(time.time_ns() // 1_000_000),  # for the ranker: the answer has the request's headers
        }
        body = json.dumps({"request_id": request_id, **request}, separators=(",", ":"))
        self._producer.produce(REQUESTS, body, user, headers=list(headers.items()), on_delivery=delivered)
        self._producer.poll(0)
        return answer

    def _receive(self) -> None:
        while not self._stopping.is_set():
            message = self._consumer.poll(0.1)
            self._producer.poll(0)
            if message is None or message.error() is not None:
                continue  # librdkafka retries by itself
            try:
                answer = json.loads(message.value() or b"")
                request_id = str(answer["request_id"])
            except (ValueError, TypeError, KeyError) as error:
                # A binary answer, or another program's record.
                print(f"{message.partition()}/{message.offset()}: no answer in JSON: {error!r}", file=sys.stderr)
                continue
            # Answers to other bidders, to requests that were given up, and duplicates have no future.
            if (waiting := self._taken(request_id)) is not None:
                waiting.set_result(answer)

    def _taken(self, request_id: str) -> "Future[dict[str, Any]] | None":
        """The future that still waits for this answer."""
        waiting = self._waiting.pop(request_id, None)
        return waiting if waiting is not None and waiting.set_running_or_notify_cancel() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._producer.flush(10)
        self._stopping.set()
        self._thread.join()
        self._consumer.close()


def main() -> None:
    count = int(sys.argv[1])
    with Bidder() as bidder:
        for i in range(count):
            started = time.monotonic()
            sent = bidder.score(f"u{i % 40}", {"ad_id": ["a1", "a2", "a3"], "bid": [0.4, 1.2, 0.7]})
            try:
                answer = sent.result((DEADLINE_MS + WAY_BACK_MS) / 1000)
            except TimeoutError:
                sent.cancel()
                print(json.dumps({"status": "no answer"}))  # bid without a score, or not at all
                continue
            ms = round((time.monotonic() - started) * 1000, 1)
            print(json.dumps({"request_id": answer["request_id"], "status": answer["status"], "ms": ms}))


if __name__ == "__main__":
    main()
