"""`streamer send` publishes requests as they are; `streamer tail` shows answers, JSON or binary."""

import json
import signal
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from sandbox.broker.kafka import KafkaBroker
from streamer.commands import app
from streamer.commands.answer_text import Timing, described
from streamer.commands.local_files import json_objects
from streamer.errors import ConfigError, StreamerError
from streamer.formats.read_answers import Answer, read_answer
from tests.kafka_fixtures import FreshTopic

ANSWER: dict[str, Any] = {
    "request_id": "r-1",
    "status": "ok",
    "model": {"name": "ctr", "version": 3},
    "ad_id": ["a", "b", "c"],
    "ctr": [0.01, 0.25, 0.0312],
    "source": ["model", "cache", "prior"],
    "ms": {"decode": 0.1, "encode": 0.25, "queue": 0.4, "predict": 3.1, "total": 4.26},
    "batch_rows": 600,
    "origin": {"topic": "bid-requests", "partition": 3, "offset": 4711},
}


@pytest.mark.parametrize(
    ("timing", "end"),
    [
        (None, ""),
        (Timing(8, 30.0), "  answered after 8 ms of 30"),
        (Timing(41, 30.0), "  answered after 41 ms of 30, 11 ms late"),
    ],
)
def test_an_answer_is_a_line_and_its_ads(timing: Timing | None, end: str) -> None:
    stages = "decode 0.1, encode 0.2, queue 0.4, predict 3.1"
    assert described(ANSWER, timing, 2) == [
        f"r-1  ok  ctr/3  3 ads  scored in 4.3 ms ({stages}){end}",
        "    b 0.25 cache, c 0.0312 prior, 1 more",
    ]


def test_an_answer_without_scores_has_its_reason() -> None:
    answer: Answer = {"request_id": "r", "status": "invalid", "reason": "candidates: empty", "ms": {"total": 0.25}}
    assert described(answer, None, 3) == ["r  invalid  scored in 0.2 ms ()", "    reason: candidates: empty"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=30)
@given(st.sampled_from([*ANSWER, "reason"]), JSON)
def test_no_answer_of_another_program_fails_or_controls_the_terminal(field: str, value: object) -> None:
    lines = described({**ANSWER, field: value}, None, 3)
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b"{}", b'{"status": 3}'])
def test_what_is_no_answer_is_named(value: bytes | None) -> None:
    with pytest.raises(ValueError, match=r"expected|not valid"):
        read_answer(value, ())
    with pytest.raises(ValueError, match="expected"):
        read_answer(value, (("content-type", b"application/x-protobuf"),))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('{"a": 1}\n\n{"a": 2}\n', [(":1", b'{"a": 1}'), (":3", b'{"a": 2}')]),
        ('{\n"a": 1}\n', [("", b'{\n"a": 1}')]),
    ],
)
def test_a_file_has_one_object_or_one_a_line(content: str, found: list[tuple[str, bytes]], tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_text(content)
    assert [(each.where.removeprefix(str(path)), each.value) for each in json_objects(path)] == found


def test_the_documents_of_a_file_are_not_in_memory_together(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(f"{json.dumps({f'key{i}': i for i in range(100)})}\n" * 500)
    tracemalloc.start()
    try:
        assert len([each.value for each in json_objects(path)]) == 500
        assert tracemalloc.get_traced_memory()[1] < 4 * path.stat().st_size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ("", [], "r.jsonl: has no requests: expected one JSON object, or one a line"),
        ('{"a": 1}\n{"a": \n', [], "r.jsonl:2: record: not valid JSON: "),
        ("[1]", [], "r.jsonl: record: expected an object, got [1]"),
        ("{}", ["--user-path", "[0]"], "--user-path: path '[0]': "),
        (None, [], "r.jsonl: cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_sent_is_a_line(
    content: str | None, arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("r.jsonl").write_text(content)
    error = CliRunner().invoke(app, ["send", "r.jsonl", *arguments]).exception
    assert isinstance(error, ConfigError)
    assert str(error).startswith(message)


Run = Callable[..., Any]


@pytest.fixture
def topics(fresh_topic: FreshTopic) -> tuple[str, str]:
    return fresh_topic(partitions=3, prefix="requests"), fresh_topic(prefix="scores")


@pytest.fixture
def run(kafka: KafkaBroker, topics: tuple[str, str], tmp_path: Path) -> Run:
    """Runs a command on the two topics."""
    config = tmp_path / "streamer.yaml"
    requests, scores = topics
    content = {
        "kafka": {"bootstrap_servers": kafka.bootstrap_servers},
        "source": {"topic": requests},
        "sink": {"topic": scores},
    }
    config.write_text(json.dumps(content))

    def invoke(*arguments: str, **more: Any) -> Any:
        return CliRunner().invoke(app, [*arguments, "--config", str(config)], env={"COLUMNS": "300"}, **more)

    return invoke


@pytest.fixture
def answering(kafka: KafkaBroker, topics: tuple[str, str]) -> Iterator[None]:
    """Answers each request: the first one in binary, others in JSON; none without candidates."""
    ended = threading.Event()
    servers = {"bootstrap.servers": kafka.bootstrap_servers}
    consumer = Consumer({**servers, "group.id": topics[0], "auto.offset.reset": "earliest"})
    producer = Producer(servers)
    consumer.subscribe([topics[0]])

    def answer() -> None:
        while not ended.is_set():
            record = consumer.poll(0.1)
            if record is None or record.error() or b"candidates" not in (value := record.value() or b""):
                continue
            origin = {"topic": record.topic(), "partition": record.partition(), "offset": record.offset()}
            fields = {**ANSWER, "request_id": json.loads(value)["request_id"], "origin": origin}
            producer.produce(topics[1], json.dumps(fields), record.key())
            producer.poll(0)
        producer.flush(10)

    thread = threading.Thread(target=answer)
    thread.start()
    yield
    ended.set()
    thread.join()
    consumer.close()


def request_line(i: int, **more: object) -> str:
    return json.dumps({"request_id": f"r-{i}", "user": {"id": f"u{i}"}, "candidates": [{"ad_id": "a"}], **more})


@pytest.mark.kafka
@pytest.mark.slow
def test_a_request_is_sent_by_its_users_key_and_its_answer_shown(
    run: Run, topics: tuple[str, str], kafka: KafkaBroker, answering: None
) -> None:
    lines = "\n".join(request_line(i) for i in range(20))
    sent = run("send", "-", "--wait", "--json", "--deadline-ms", "25", "--timeout-s", "60", input=lines)
    assert sent.exit_code == 0, sent.output
    printed = [json.loads(line) for line in sent.stdout.splitlines()]
    positions, answers = printed[:20], printed[20:]
    assert {each["key"] for each in positions} == {f"u{i}" for i in range(20)}
    assert sorted(each["request_id"] for each in answers) == sorted(f"r-{i}" for i in range(20))

    # librdkafka's murmur2 sends each key to the same partition.
    expected: dict[str, int] = {}
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "partitioner": "murmur2_random"})
    for each in positions:
        producer.produce(
            topics[0], b"{}", each["key"], on_delivery=lambda _, m: expected.update({m.key().decode(): m.partition()})
        )
    assert producer.flush(60) == 0
    assert {each["key"]: each["partition"] for each in positions} == expected

    shown = run("tail", "--from-beginning", "-n", "20", "--request-id", "r-7", "--status", "ok", "-n", "1")
    assert shown.exit_code == 0, shown.output
    first, second = shown.stdout.splitlines()
    assert first.startswith("r-7  ok  ctr/3  3 ads  scored in 4.3 ms (decode 0.1, ")
    assert " ms of 25" in first  # the budget in the header of the request
    assert second == "    b 0.25 cache, c 0.0312 prior, a 0.01 model"
    (line,) = run("tail", "--from-beginning", "--json", "-n", "1").stdout.splitlines()
    assert json.loads(line)["ctr"] == ANSWER["ctr"]


@pytest.mark.kafka
@pytest.mark.slow
def test_a_missing_answer_and_a_missing_topic_are_a_line(
    run: Run, kafka: KafkaBroker, answering: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = f"{request_line(1)}\n{{}}"
    sent = run("send", "-", "--wait", "--timeout-s", "5", input=lines)
    assert isinstance(sent.exception, StreamerError)
    assert str(sent.exception).startswith("1 of 2 requests have no answer after 5 s, the first one is ")
    assert "r-1  ok  " in sent.stdout
    assert "1 of 2 requests have nothing at user.id, so no key (--user-path)" in sent.stderr
    monkeypatch.setenv("STREAMER_SOURCE__TOPIC", "none-of-these")
    error = run("send", "-", input="{}").exception
    assert str(error) == "no topic none-of-these; `streamer topics create` creates missing topics"


@pytest.mark.kafka
@pytest.mark.slow
def test_ctrl_c_ends_tail_cleanly(run: Run, topics: tuple[str, str], kafka: KafkaBroker, tmp_path: Path) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    producer.produce(topics[1], json.dumps(ANSWER))
    assert producer.flush(60) == 0
    command = [
        "env",
        "--default-signal=INT",  # a job in the background of a shell has it ignored
        sys.executable,
        "-m",
        "streamer",
        "tail",
        "--from-beginning",
        "--config",
        str(tmp_path / "streamer.yaml"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("r-1  ok  ")
        process.send_signal(signal.SIGINT)
        try:
            rest, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, ""), rest
