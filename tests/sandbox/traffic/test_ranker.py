"""Checker, report and ranker: verdicts, counts, and a round trip through Kafka."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest
from confluent_kafka import Consumer, Producer

from sandbox.broker.kafka import KafkaBroker
from sandbox.traffic.checker import Checker, Sample
from sandbox.traffic.dead_letters import REASON
from sandbox.traffic.quality import Documents, quality
from sandbox.traffic.ranker import Ranker, RankerError
from sandbox.traffic.report import per_second, report_of
from sandbox.traffic.sender import Sender
from sandbox.traffic.sent_requests import SentRequests
from sandbox.world.bid_requests import RequestFactory
from tests.kafka_fixtures import FreshTopic
from tests.sandbox.traffic.answers import CANDIDATES, MS, Bench, answer_to
from tests.sandbox.world.small import small_world

_WAIT_S = 60.0


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_correct_answer_is_counted_and_timed(bench: Bench) -> None:
    record = bench.ask(at=5.0)
    assert bench.checker.check(orjson.dumps(answer_to(record)), 5.25) == "right"
    report = report_of(bench.checker, bench.sent_requests)
    assert report.clean
    assert (report.requests_sent, report.answered, report.lost) == (1, 1, 0)
    assert report.statuses == {"ok": 1}
    assert report.sources == {"model": CANDIDATES - 1, "cache": 1, "prior": 0}
    assert report.models == {"wdl/3": 1}
    assert report.times.latency_ms.tolist() == [250.0]
    assert report.times.batch_rows.tolist() == [640.0]
    assert report.times.version.tolist() == [3.0]
    assert {stage: ms.tolist() for stage, ms in report.times.stage_ms.items()} == {k: [v] for k, v in MS.items()}


def test_an_answer_without_scores_is_correct_if_its_status_has_none(bench: Bench) -> None:
    for status in ("expired", "invalid"):
        answer = answer_to(
            bench.ask(), status=status, ad_id=..., ctr=..., source=..., ms=..., batch_rows=..., reason="r"
        )
        assert bench.checker.check(orjson.dumps(answer), 1.0) == "right"
    report = report_of(bench.checker, bench.sent_requests)
    assert report.statuses == {"expired": 1, "invalid": 1}
    assert report.reasons == {"r": 2}
    assert np.isnan(report.times.batch_rows).all()
    assert report.times.version.tolist() == [3.0, 3.0]
    assert report.samples == ()


@pytest.mark.parametrize(
    ("fault", "damage"),
    [
        ("bad_status", lambda a: {**a, "status": "fine"}),
        ("bad_status", lambda a: {**a, "status": ["ok"]}),
        ("bad_columns", lambda a: {**a, "ctr": None}),
        ("bad_columns", lambda a: {**a, "source": "model"}),
        ("bad_columns", lambda a: {**a, "status": "expired"}),
        ("wrong_count", lambda a: {**a, "ctr": a["ctr"][1:]}),
        ("wrong_count", lambda a: {**a, "ad_id": [], "ctr": [], "source": []}),
        ("wrong_count", lambda a: {**a, **{key: [*a[key], a[key][0]] for key in ("ad_id", "ctr", "source")}}),
        ("wrong_order", lambda a: {**a, "ad_id": a["ad_id"][::-1]}),
        ("wrong_ads", lambda a: {**a, "ad_id": [*a["ad_id"][1:], "ad-of-another"]}),
        ("wrong_ads", lambda a: {**a, "ad_id": [*a["ad_id"][1:], a["ad_id"][1]]}),
        ("wrong_ads", lambda a: {**a, "ad_id": [*a["ad_id"][1:], {}]}),
        ("not_a_probability", lambda a: {**a, "ctr": [*a["ctr"][1:], float("nan")]}),
        ("not_a_probability", lambda a: {**a, "ctr": [*a["ctr"][1:], 1.0001]}),
        ("not_a_probability", lambda a: {**a, "ctr": [*a["ctr"][1:], -1e-9]}),
        ("not_a_probability", lambda a: {**a, "ctr": [*a["ctr"][1:], "0.5"]}),
        ("not_a_probability", lambda a: {**a, "ctr": [*a["ctr"][1:], True]}),
        ("bad_source", lambda a: {**a, "source": [*a["source"][1:], "guess"]}),
        ("bad_source", lambda a: {**a, "source": [*a["source"][1:], "prior"]}),
    ],
)
def test_each_fault_is_found_and_named(
    bench: Bench, fault: str, damage: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    record = bench.ask()
    value = orjson.dumps(damage(answer_to(record)))
    assert bench.checker.check(value, 1.0) == fault
    report = report_of(bench.checker, bench.sent_requests)
    assert report.wrong == {fault: 1}
    assert (report.answered, report.lost) == (1, 0)
    assert not report.clean
    assert report.samples == ()
    assert record.request_id in report.examples[fault]


@pytest.mark.parametrize(
    "value",
    [b"", b"nothing", b'{"request_id":', b"[]", b'{"request_id": 5}', b'{"request_id": "r-0", "ctr": [NaN]}', b"\xff"],
)
def test_an_unreadable_answer_leaves_its_request_lost(bench: Bench, value: bytes) -> None:
    bench.ask()
    assert bench.checker.check(value, 1.0) == "bad_json"
    report = report_of(bench.checker, bench.sent_requests)
    assert (report.answered, report.lost, report.wrong) == (0, 1, {"bad_json": 1})


def test_duplicate_and_unknown_answers_are_counted_separately(bench: Bench) -> None:
    record = bench.ask()
    value = orjson.dumps(answer_to(record))
    unknown = orjson.dumps(answer_to(record, request_id="r-999"))
    assert [bench.checker.check(v, 1.0) for v in (unknown, value, value, value)] == [
        "unknown",
        "right",
        "duplicate",
        "duplicate",
    ]
    report = report_of(bench.checker, bench.sent_requests)
    assert (report.answered, report.unknown, report.duplicates, report.lost) == (1, 1, 2, 0)
    assert report.wrong == {}
    assert not report.clean


def test_a_partial_answer_may_hold_priors(bench: Bench) -> None:
    answer = answer_to(bench.ask(), status="partial", source=["prior"] * CANDIDATES, reason="late")
    assert bench.checker.check(orjson.dumps(answer), 1.0) == "right"
    assert bench.checker.sources["prior"] == CANDIDATES


def test_memory_is_bounded_and_keeps_the_latest_times() -> None:
    bench = Bench(samples=3, capacity=4)
    for i in range(10):
        bench.checker.check(orjson.dumps(answer_to(bench.ask(at=float(i)))), i + 0.001 * i)
    assert len(bench.checker.samples) == 3
    assert bench.checker.times().latency_ms == pytest.approx([6.0, 7.0, 8.0, 9.0])


def test_figures_by_second(bench: Bench) -> None:
    for at, latency in ((10.0, 0.1), (10.2, 0.3), (12.0, 0.5)):
        bench.checker.check(orjson.dumps(answer_to(bench.ask(at=at))), at + latency)
    series = per_second(bench.checker.times())
    assert series.second.tolist() == [0, 1, 2]
    assert series.answers.tolist() == [2, 0, 1]
    assert series.p50_ms[0] == pytest.approx(200.0)
    assert series.p50_ms[2] == pytest.approx(500.0)
    assert np.isnan(series.p99_ms[1])
    assert series.batch_rows[2] == 640.0
    assert len(per_second(Checker(SentRequests(), ()).times()).second) == 0


def test_quality_of_the_true_probabilities_and_of_their_inverse() -> None:
    """The true probabilities as scores reach their own AUC exactly; inverted they reach one minus it."""
    world = small_world()
    factory = RequestFactory(world, candidates=100)
    right, reverse = [], []
    for _ in range(150):
        record = factory.next()
        context = record.contexts.one(record.row)
        ctr = world.true_ctr(record.user, context, record.ads)
        right.append(Sample(record.user, context, record.ads, ctr))
        reverse.append(Sample(record.user, context, record.ads, 1.0 - ctr))
    found = quality(world, tuple(right), shown=60)
    assert found.impressions == 150 * 60
    assert found.served == found.bayes
    assert 0.75 < found.bayes < 0.86
    assert found.mean_ctr == pytest.approx(found.mean_served)
    assert quality(world, tuple(reverse), shown=60).served == pytest.approx(1.0 - found.bayes)
    assert np.isnan(found.baseline)
    assert np.isnan(quality(world, ()).served)


def test_a_baseline_is_measured_on_the_same_clicks() -> None:
    """The baseline gets request documents and candidates only; the ads' own click rates carry little information."""
    world = small_world()
    factory = RequestFactory(world, candidates=40)
    seen: list[tuple[Documents, Documents, list[int]]] = []

    def by_click_rate(
        documents: Documents, candidates: Documents, shown: list[int]
    ) -> np.ndarray[Any, np.dtype[np.float64]]:
        seen.append((documents, candidates, shown))
        return np.array([candidate["ctr"] for candidate in candidates], dtype=np.float64)

    records = [factory.next() for _ in range(100)]
    samples = tuple(Sample(r.user, r.contexts.one(r.row), r.ads, np.full(40, 0.5)) for r in records)
    found = quality(world, samples, shown=30, baseline=by_click_rate)
    [(documents, candidates, shown)] = seen
    assert len(candidates) == found.impressions == 3_000
    assert len(documents) == 100
    assert shown == [30] * 100
    assert set(documents[0]) == {"user", "context"}
    assert found.served == 0.5
    assert 0.5 < found.baseline < found.bayes


def _echo(bootstrap: str, requests: str, answers: str, started: threading.Event, stop: threading.Event) -> None:
    """Answers each request with constant scores; skips request number 3 and answers number 5 twice."""
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
