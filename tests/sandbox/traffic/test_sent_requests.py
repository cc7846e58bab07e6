"""Sent requests and their answers."""

import pytest

from sandbox.traffic.sent_requests import AlreadyAnswered, SentRequest, SentRequests
from sandbox.world.bid_requests import RequestFactory
from tests.sandbox.world.small import small_world


@pytest.fixture
def requests() -> SentRequests:
    return SentRequests(capacity=3)


def test_each_request_is_answered_once(requests: SentRequests) -> None:
    record = RequestFactory(small_world(), candidates=2).next()
    requests.add(record, 1.5)
    assert requests.unanswered == 1
    sent = requests.answer(record.request_id)
    assert isinstance(sent, SentRequest)
    assert sent.sent_at == 1.5
    assert isinstance(requests.answer(record.request_id), AlreadyAnswered)
    assert requests.answer("unknown") is None
    assert (requests.sent, requests.unanswered) == (1, 0)


def test_a_dead_letter_replaces_an_answer(requests: SentRequests) -> None:
    factory = RequestFactory(small_world(), candidates=2)
    dead, answered = factory.next(), factory.next()
    for record in (dead, answered):
        requests.add(record, 1.0)
    requests.dead_letter(dead.request_id)
    requests.dead_letter(dead.request_id)
    requests.dead_letter("unknown")
    assert (requests.dead_lettered, requests.unanswered) == (1, 1)
    assert isinstance(requests.answer(dead.request_id), AlreadyAnswered)
    requests.answer(answered.request_id)
    requests.dead_letter(answered.request_id)
    assert (requests.dead_lettered, requests.unanswered) == (1, 0)


def test_no_answer_is_expected_to_an_undelivered_request(requests: SentRequests) -> None:
    record = RequestFactory(small_world(), candidates=2).next()
    requests.add(record, 0.0)
    requests.delivery_failed(record.request_id)
    requests.delivery_failed(record.request_id)
    assert (requests.sent, requests.undelivered, requests.unanswered) == (1, 1, 0)


def test_the_oldest_request_is_forgotten_and_still_counted(requests: SentRequests) -> None:
    factory = RequestFactory(small_world(), candidates=2)
    records = [factory.next() for _ in range(5)]
    for record in records:
        requests.add(record, 0.0)
    assert requests.answer(records[0].request_id) is None
    assert isinstance(requests.answer(records[4].request_id), SentRequest)
    assert (requests.sent, requests.unanswered) == (5, 4)


def test_requests_without_an_answer_have_the_partition_that_the_broker_named(requests: SentRequests) -> None:
    factory = RequestFactory(small_world(), candidates=2)
    lost, dead, answered = (factory.next() for _ in range(3))
    for at, record in enumerate((lost, dead, answered)):
        requests.add(record, float(at))
    requests.delivered(dead.request_id, 3, 1.0, 0.25)
    requests.dead_letter(dead.request_id)
    requests.answer(answered.request_id)
    requests.delivered(answered.request_id, 1, 2.0, 0.5)  # the acknowledgement comes after the answer
    requests.delivered("unknown", 1, 3.0, 1.0)
    assert [(entry.sent_at, entry.partition) for entry in requests.without_answer()] == [(1.0, 3), (0.0, None)]
    assert requests.delays() == [(1.0, 0.25), (2.0, 0.5), (3.0, 1.0)]
