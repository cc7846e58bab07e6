"""A round trip of requests and answers through Kafka."""

import threading
import time

import orjson
import pytest
from confluent_kafka import Consumer, Producer

from sandbox.broker.kafka import KafkaBroker
from sandbox.traffic.checker import Checker
from sandbox.traffic.dead_letters import REASON
from sandbox.traffic.ranker import Ranker, RankerError
from sandbox.traffic.sender import Sender
from sandbox.traffic.sent_requests import SentRequests
from sandbox.world.bid_requests import RequestFactory
from tests.kafka_fixtures import FreshTopic
from tests.sandbox.world.small import small_world

_WAIT_S = 60.0


def _echo(bootstrap: str, requests: str, answers: str, started: threading.Event, stop: threading.Event) -> None:
    """Answers requests with constant scores; skips request number 3, answers number 5 twice."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": requests, "auto.offset.reset": "earliest"})
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 2})
    consumer.subscribe([requests], on_assign=lambda *_: started.set())
    try:
        while not stop.is_set():
            message = consumer.poll(0.05)
            if message is None or message.error() is not None:
                continue
            request = orjson.loads(message.value())
            ad_ids = [ad["ad_id"] for ad in request["candidates"]]
            n, number = len(ad_ids), int(request["request_id"].rpartition("-")[2])
            answer = {"status": "ok", "ad_id": ad_ids, "ctr": [0.5] * n, "source": ["model"] * n}
            value = orjson.dumps({"request_id": request["request_id"], **answer})
            for _ in range({3: 0, 5: 2}.get(number, 1)):
                producer.produce(answers, value, headers=message.headers())
            producer.poll(0)
    finally:
        producer.flush(10)
        consumer.close()


@pytest.mark.kafka
def test_requests_and_answers_pass_through_kafka(kafka: KafkaBroker, fresh_topic: FreshTopic) -> None:
    world = small_world()
    bootstrap = kafka.bootstrap_servers
    requests, answers, dead = (fresh_topic(2, prefix=name) for name in ("requests", "answers", "dead"))
    old = Producer({"bootstrap.servers": bootstrap, "log_level": 2})
    old.produce(answers, b"of an earlier run")
    assert old.flush(_WAIT_S) == 0
    sent_requests = SentRequests()
    checker = Checker(sent_requests, world.ads.ids)
    ranker = Ranker(bootstrap, answers, checker, sent_requests, dead_letters=dead)
    traffic = Sender(
        bootstrap,
        requests,
        RequestFactory(world, candidates=30),
        rate=100.0,
        seconds=0.5,
        arrival="uniform",
        sent_requests=sent_requests,
    )
    started, stop = threading.Event(), threading.Event()
    echo = threading.Thread(target=_echo, args=(bootstrap, requests, answers, started, stop))
    echo.start()
    try:
        assert started.wait(_WAIT_S)
        ranker.start()
        traffic.start()
        assert traffic.join(_WAIT_S)
        old.produce(dead, b"?", headers=[(REASON, b"no request id")])
        old.produce(dead, b'{"request_id": 1}', headers=[(REASON, b"no request id")])
        assert old.flush(_WAIT_S) == 0
        deadline = time.monotonic() + _WAIT_S
        while (sent_requests.unanswered > 1 or ranker.report().dead_letters != 2) and time.monotonic() < deadline:
            ranker.wait_for_answers(0.05)
    finally:
        stop.set()
        echo.join(_WAIT_S)
        ranker.close()
    report = ranker.report()
    assert (report.requests_sent, report.answered, report.lost, report.duplicates) == (50, 49, 1, 1)
    assert (report.unknown, report.wrong) == (0, {})
    assert (report.dead_letters, report.dead_letter_reasons) == (2, {"no request id": 2})
    assert report.times.latency_ms.min() > 0
    sent = traffic.report()
    assert (sent.sent, sent.undelivered, sent.errors) == (50, 0, {})
    assert sent.lag_ms.min() >= 0


@pytest.mark.kafka
def test_the_error_names_a_missing_topic(kafka: KafkaBroker) -> None:
    sent_requests = SentRequests()
    ranker = Ranker(kafka.bootstrap_servers, "nowhere", Checker(sent_requests, ()), sent_requests)
    with pytest.raises(RankerError, match="topic nowhere"):
        ranker.start()
    ranker.close()
