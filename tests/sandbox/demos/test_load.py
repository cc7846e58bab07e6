"""The traffic of the demos on a broker that keeps few records."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
import pytest
from confluent_kafka import Consumer, Producer

from sandbox.broker.embedded import EmbeddedBroker
from sandbox.demos.load import TOPICS, Load
from sandbox.traffic import sender
from sandbox.traffic.sender import Sender, SenderError
from sandbox.traffic.sent_requests import SentRequests
from sandbox.world.bid_requests import RequestFactory
from tests.sandbox.world.small import small_world

_CANDIDATES = 600  # 150 KB: 300 such requests are twice what the broker keeps


@contextmanager
def slow_scorer(bootstrap: str) -> Iterator[None]:
    """Answers 200 requests a second at most."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "scorer", "fetch.wait.max.ms": 5})
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 2})
    started, stop = threading.Event(), threading.Event()

    def answer() -> None:
        while not stop.is_set():
            message = consumer.poll(0.05)
            if message is None or message.error() is not None:
                continue
            request = orjson.loads(message.value())
            n = len(request["candidates"])
            answer = {"status": "ok", "ctr": [0.5] * n, "source": ["model"] * n}
            answer |= {"request_id": request["request_id"], "ad_id": [ad["ad_id"] for ad in request["candidates"]]}
            producer.produce(TOPICS.scores, orjson.dumps(answer))
            producer.poll(0)
            time.sleep(0.005)

    consumer.subscribe([TOPICS.requests], on_assign=lambda *_: started.set())
    thread = threading.Thread(target=answer)
    thread.start()
    try:
        assert started.wait(30)
        yield
    finally:
        stop.set()
        thread.join()
        producer.flush(10)
        consumer.close()


@pytest.mark.slow
def test_an_overloaded_embedded_broker_loses_no_request() -> None:
    """The probe for the highest rate waits a minute for the answers of lost requests."""
    with EmbeddedBroker() as broker:
        for topic in TOPICS:
            broker.create_topic(topic)
        with slow_scorer(broker.bootstrap_servers):
            load = Load(small_world(), broker, _CANDIDATES)
            report = load.run(load.factory(seed=1, deadline_ms=60_000, prefix="r"), rate=2000.0, seconds=0.15)
    assert report.requests_sent > 200
    assert (report.answered, report.lost) == (report.requests_sent, 0)


@pytest.mark.slow
def test_a_sender_without_answers_ends_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "_ANSWER_S", 0.2)
    with EmbeddedBroker() as broker:
        factory = RequestFactory(small_world(), candidates=3)
        traffic = Sender(
            broker.bootstrap_servers,
            TOPICS.requests,
            factory,
            rate=100,
            seconds=5,
            sent_requests=SentRequests(),
            max_unanswered=2,
        )
        traffic.start()
        with pytest.raises(SenderError, match="2 requests have no answer after 0 s, so no more are sent"):
            traffic.join(30)
