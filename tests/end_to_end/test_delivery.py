"""Answers after a crash, for each `delivery.guarantee`, on a real broker."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from confluent_kafka import Consumer, Producer
from confluent_kafka import TopicPartition as ReadPartition
from typer.testing import CliRunner

from sandbox.broker.kafka import KafkaBroker
from sandbox.processes.model_server import ModelServerProcess
from sandbox.processes.scorer import ScorerProcess
from streamer.commands import app
from tests.end_to_end.conftest import ANSWER_S, System, request
from tests.end_to_end.fragile_scorer import STATUS
from tests.kafka_fixtures import FreshTopic

pytestmark = pytest.mark.kafka

# A static member gets its partitions at once when it comes back; the group does not wait for its session to end.
MEMBER = {"kafka__group_instance_id": "one", "cache__enabled": False}
FRAGILE = ("-m", "tests.end_to_end.fragile_scorer", "run")


@pytest.fixture
def system(make_system: Callable[[str], System], simulated_server: ModelServerProcess) -> System:
    """New topics, and the simulated model server."""
    return make_system(simulated_server.address)


def _committed(system: System) -> OffsetAndMetadata:
    """The group's commit: its offset, below 0 without a commit, and the words of its metadata.

    librdkafka's Python client cannot read it: it reads beyond the end of the metadata.
    """
    partition = TopicPartition(system.requests, 0)

    async def ask() -> OffsetAndMetadata:
        admin = AIOKafkaAdminClient(bootstrap_servers=system.bootstrap)
        await admin.start()
        try:
            found = await admin.list_consumer_group_offsets(
                str(system.settings["kafka.group_id"]), partitions=[partition]
            )
        finally:
            await admin.close()
        commit = found.get(partition, OffsetAndMetadata(-1, ""))
        return OffsetAndMetadata(commit.offset, " ".join(commit.metadata.split()))

    return asyncio.run(ask())


def _is_committed(system: System, offset: int) -> bool:
    return bool(_committed(system).offset == offset)


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + ANSWER_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def _kill_in_a_transaction(system: System, scorer: ScorerProcess) -> None:
    """Sends SIGKILL while the topic of answers holds some of an open transaction."""
    readers = [
        Consumer({"bootstrap.servers": system.bootstrap, "group.id": "ends", "isolation.level": level})
        for level in ("read_committed", "read_uncommitted")
    ]
    try:

        def is_open() -> bool:
            scorer.signal(signal.SIGSTOP)
            os.waitid(os.P_PID, scorer.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            at = ReadPartition(system.scores, 0)
            stable, end = (reader.get_watermark_offsets(at, timeout=60)[1] for reader in readers)
            if stable < end:
                return True
            scorer.signal(signal.SIGCONT)
            return False

        _until(is_open, "no transaction was open at any stop of the scorer")
        scorer.kill()
    finally:
        for reader in readers:
            reader.close()


def test_exactly_once_through_a_kill_within_a_transaction(system: System) -> None:
    total = 120
    settings = {**MEMBER, "delivery__guarantee": "exactly_once", "delivery__transaction_interval_ms": 1}
    with system.scorer(**settings, delivery__max_transaction_records=5) as scorer:
        system.send([request(f"r{i}") for i in range(total)] + [b"no request"])
        system.read(system.scores, 1)
        _kill_in_a_transaction(system, scorer)
    # Fewer than are left: committed records make room.
    with system.scorer(**settings, offsets__max_uncommitted_records=20) as scorer:
        system.answers(total)
        assert len(system.read(system.dead_letters, 1)) == 1
        assert scorer.metric("streamer_delivery_transactions_total", outcome="committed") > 0
        assert scorer.stop() == 0
    for topic, expected in ((system.scores, total), (system.dead_letters, 1)):
        assert len(system.read(topic, expected + 1, timeout_s=3)) == expected, "an answer came twice"
    commit = _committed(system)
    assert (commit.offset, commit.metadata) == (total + 1, "ctr-streamer:clean")


def test_a_fenced_worker_stops_with_one_line_and_its_successor_answers(system: System) -> None:
    settings = {**MEMBER, "delivery__guarantee": "exactly_once"}
    with system.scorer(**settings) as scorer:
        system.send([request("before")])
        system.answers(1)
        name = f"{system.settings['kafka.group_id']}-{system.requests}-0"
        Producer({"bootstrap.servers": system.bootstrap, "transactional.id": name}).init_transactions(60)
        system.send([request("after")])
        assert scorer.wait(ANSWER_S) == 1
        log = scorer.log_path.read_text()
    said = [line for line in log.splitlines() if "another worker has taken over" in line]
    assert len(said) == 1, log
    assert "Traceback" not in log, log
    with system.scorer(**settings):
        assert set(system.answers(2)) == {"before", "after"}


@pytest.mark.parametrize("guarantee", ["at_least_once", pytest.param("exactly_once", marks=pytest.mark.slow)])
def test_of_two_workers_with_one_static_name_the_older_ends_with_one_line(system: System, guarantee: str) -> None:
    """With exit status 2: a restart would take the name back."""
    settings = {**MEMBER, "delivery__guarantee": guarantee}
    with system.scorer(**settings) as old:
        system.send([request("before")])
        system.answers(1)
        with ScorerProcess(
            {**system.settings, **{name.replace("__", "."): value for name, value in settings.items()}},
            system.folder / "younger.log",
        ) as young:
            assert old.wait(ANSWER_S) == 2
            system.send([request("after")])
            assert set(system.answers(2)) == {"before", "after"}
            assert young.stop() == 0
        log = old.log_path.read_text()
    said = [line for line in log.splitlines() if line.startswith("streamer: kafka.group_instance_id: another process")]
    assert len(said) == 1, log
    assert "Traceback" not in log, log


@pytest.mark.slow
def test_a_worker_that_comes_back_after_its_session_ended_adds_nothing(system: System) -> None:
    """It is stopped in a transaction, longer than its session; a second worker takes over."""
    total = 150
    settings = {"cache__enabled": False, "delivery__guarantee": "exactly_once", "kafka__session_timeout_ms": 6000}
    slowly = {"delivery__transaction_interval_ms": 1, "delivery__max_transaction_records": 3}
    with system.scorer(**settings, **slowly) as paused:
        system.send([request(f"r{i}") for i in range(total)])
        system.read(system.scores, 1)
        paused.signal(signal.SIGSTOP)
        with ScorerProcess(
            {**system.settings, **{name.replace("__", "."): value for name, value in settings.items()}},
            system.folder / "successor.log",
        ) as successor:
            system.answers(total)
            paused.signal(signal.SIGCONT)
            assert paused.wait(ANSWER_S) == 1
            system.send([request("afterwards")])
            answers = [message.json["request_id"] for message in system.read(system.scores, total + 2, timeout_s=10)]
            assert successor.stop() == 0
        log = paused.log_path.read_text()
    assert sorted(answers) == sorted([*(f"r{i}" for i in range(total)), "afterwards"])
    assert log.count("fenced, this worker stops") == 1, log


@pytest.mark.slow
@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
def test_a_worker_stops_in_time_although_the_broker_is_down(
    simulated_server: ModelServerProcess, tmp_path: Path, guarantee: str
) -> None:
    topics = {"source.topic": "requests", "sink.topic": "scores", "sink.dead_letter_topic": "dead"}
    with KafkaBroker() as broker:
        for topic in topics.values():
            broker.create_topic(topic)
        settings = {
            "kafka.bootstrap_servers": broker.bootstrap_servers,
            "predictor.addresses": [simulated_server.address],
            "service.drain_ms": 3000,
            "kafka.request_timeout_ms": 2000 * int(ANSWER_S),  # a stop that waits for a broker would fail
            "delivery.guarantee": guarantee,
            **topics,
        }
        with ScorerProcess(settings, tmp_path / "log") as scorer:
            producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
            for i in range(200):
                producer.produce("requests", request(f"r{i}"))
            producer.flush(60)
            broker.kill()
            scorer.signal(signal.SIGTERM)
            assert scorer.wait(ANSWER_S) in {0, 1}
            assert "Traceback" not in scorer.log_path.read_text(), scorer.log_tail()


def test_at_most_once_loses_records_in_flight_and_repeats_none(
    system: System, simulated_server: ModelServerProcess
) -> None:
    settings = {**MEMBER, "delivery__guarantee": "at_most_once"}
    with system.scorer(**settings) as scorer:
        system.send([request("answered")])
        system.answers(1)
        simulated_server.pause()
        try:
            system.send([request("in flight")])
            _until(lambda: bool(_committed(system).offset == 2), "the request was not committed before its answer")
            scorer.kill()
        finally:
            simulated_server.resume()
    with system.scorer(**settings):
        system.send([request("later")])
        assert set(system.answers(2)) == {"answered", "later"}


@pytest.mark.parametrize("guarantee", ["at_least_once", pytest.param("exactly_once", marks=pytest.mark.slow)])
def test_an_answer_that_is_too_large_for_its_topic_is_dead_lettered(
    system: System, fresh_topic: FreshTopic, guarantee: str
) -> None:
    small = [f"r{i}" for i in range(20)]
    values = [request(name) for name in small]
    values.insert(7, request("large", ads=[f"a{i}" for i in range(100)]))
    # Some answers fit into one batch, not all; one does not fit alone.
    scores = fresh_topic(config={"max.message.bytes": "2000"})
    system.send(values)
    with system.scorer(sink__topic=scores, delivery__guarantee=guarantee):
        (letter,) = system.read(system.dead_letters, 1)
        answers = [message.json["request_id"] for message in system.read(scores, len(small))]
    assert sorted(answers) == sorted(small)
    assert (letter.value, letter.headers["dead_letter.stage"]) == (values[7], b"publish")
    assert letter.headers["dead_letter.reason"].endswith(b" bytes are too large for topic '%s'" % scores.encode())


@pytest.mark.slow
@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
def test_only_the_record_that_kills_its_worker_is_dead_lettered(system: System, guarantee: str) -> None:
    good = [f"r{i}" for i in range(12)]
    values = [request(name) for name in good]
    values.insert(7, request("kills its worker"))
    changed = {name.replace("__", "."): value for name, value in MEMBER.items()}
    settings = {**system.settings, **changed, "delivery.guarantee": guarantee}
    scorer = ScorerProcess(settings, system.folder / "scorer.log", command=FRAGILE)
    system.send(values)
    marks = []
    for death in range(5):
        scorer.spawn()
        assert scorer.wait(ANSWER_S) == STATUS, f"death {death}: {scorer.log_tail()}"
        marks.append(_committed(system).metadata)
    assert marks[-2:] == [f"ctr-streamer:careful until 13 trying 7 deaths {deaths}" for deaths in (0, 1)], marks
    with scorer:
        (letter,) = system.read(system.dead_letters, 1)
        # After the window records are not isolated.
        system.send([request("afterwards")])
        _until(lambda: bool(_committed(system).offset == 14), "the scorer does not go on")
        assert scorer.metric("streamer_delivery_isolated_partitions") == 0
        assert scorer.stop() == 0
    answers = [message.json["request_id"] for message in system.read(system.scores, 100, timeout_s=5)]
    assert set(answers) == {*good, "afterwards"}
    assert len(answers) == 13 or guarantee == "at_least_once"
    assert letter.value == values[7]
    assert letter.headers["dead_letter.stage"] == b"crash"
    assert letter.headers["dead_letter.offset"] == b"7"
    assert len(system.read(system.dead_letters, 2, timeout_s=3)) == 1
    names = ("kafka.bootstrap_servers", "sink.dead_letter_topic")
    environment = {f"STREAMER_{name.replace('.', '__').upper()}": str(settings[name]) for name in names}
    sent_again = CliRunner().invoke(app, ["dlq", "replay", "--stage", "crash", "--yes"], env=environment)
    assert "1 replayed" in sent_again.output
    with ScorerProcess(settings, system.folder / "repaired.log"):
        read = system.read(system.scores, len(answers) + 1)
    assert read[-1].json["request_id"] == "kills its worker"


@pytest.mark.slow
def test_a_worker_killed_from_outside_isolates_nothing_and_dead_letters_nothing(
    system: System, simulated_server: ModelServerProcess
) -> None:
    """Each kill leaves hundreds of uncommitted records, some of them in flight."""
    total, kills = 300, 3
    names = {f"{kill}-{i}" for kill in range(kills) for i in range(total)}
    with system.scorer(**MEMBER) as scorer:
        for kill in range(kills):
            simulated_server.pause()
            try:
                system.send([request(f"{kill}-{i}") for i in range(total)])
                _until(lambda: scorer.metric("streamer_source_in_flight_records") > 1, "nothing is in flight")
                scorer.kill()
            finally:
                simulated_server.resume()
            scorer.start()
            assert scorer.metric("streamer_delivery_isolated_partitions") == 0
            _until(partial(_is_committed, system, total * (kill + 1)), "the successor does not go on")
            assert scorer.metric("streamer_delivery_isolated_partitions") == 0
        assert scorer.stop() == 0
        log = scorer.log_path.read_text()
    answers = [message.json["request_id"] for message in system.read(system.scores, 3 * len(names), timeout_s=5)]
    assert set(answers) == names
    assert system.read(system.dead_letters, 1, timeout_s=3) == []
    assert log.count("workers died at the committed offsets") == kills
    assert "one at a time" not in log
