"""Every kind of bad record between good ones: each has one answer or one dead letter."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

from sandbox.broker.kafka import KafkaBroker
from sandbox.processes.scorer import ScorerProcess
from streamer.kafka import clients
from tests.end_to_end.conftest import ANSWER_S, System, request

pytestmark = [pytest.mark.kafka, pytest.mark.tensorflow]


def _with(name: str, /, **changes: object) -> bytes:
    return orjson.dumps({**orjson.loads(request(name)), **changes})


def _raw(request_id: str, candidates: bytes) -> bytes:
    return b'{"request_id":"%b","user":{"id":"u"},"candidates":%b}' % (request_id.encode(), candidates)


INVALID: dict[str, tuple[bytes, str]] = {
    "user no object": (_with("user no object", user=5), "user"),
    "context no object": (_with("context no object", context="x"), "context"),
    "candidates no list": (_with("candidates no list", candidates=7), "candidates"),
    "no candidates": (_with("no candidates", candidates=[]), "candidates"),
    "candidates missing": (_with("candidates missing", candidates=None), "candidates"),
    "too many": (_with("too many", candidates=[{"ad_id": str(i)} for i in range(10_000)]), "10000"),
    "candidate no object": (_raw("candidate no object", b'[{"ad_id":"a"},3]'), "candidates[1]"),
    "ad id a number": (_raw("ad id a number", b'[{"ad_id":"a"},{"ad_id":3}]'), "candidates[1].ad_id"),
    "ad id empty": (_raw("ad id empty", b'[{"ad_id":""}]'), "candidates[0].ad_id"),
    "NaN": (_raw("NaN", b'[{"ad_id":"a","bid":NaN}]'), "JSON"),
    "huge number": (_raw("huge number", b'[{"ad_id":"a","bid":1e999}]'), "candidates[0]"),
    "lone surrogate": (_raw("lone surrogate", b'[{"ad_id":"\\ud800"}]'), "surrogate"),
    "columns differ": (_with("columns differ", candidates={"ad_id": ["a", "b"], "bid": [1]}), "candidates.bid"),
    "deadline a word": (_with("deadline a word", deadline_ms="soon"), "deadline_ms"),
    "deadline negative": (_with("deadline negative", deadline_ms=-1), "deadline_ms"),
    "trailing comma": (_raw("trailing comma", b'[{"ad_id":"a"}],"bcat":["IAB1",]'), "JSON"),
    "cut": (_with("cut")[:-3], "JSON"),
    "large": (b'{"request_id":"large","x":"' + b"x" * 5_000_000 + b'"}', "codec.max_record_bytes"),
    "model a number": (_with("model a number", model=3), "model"),
    "model unknown": (_with("model unknown", model="other"), "other"),
}
DEAD: dict[str, bytes | None] = {
    "not JSON": b"{nonsense",
    "an array": b"[1,2]",
    "a number": b"12",
    "text": b'"hello"',
    "null": b"null",
    "empty": b"",
    "tombstone": None,
    "no id": orjson.dumps({"user": {}, "candidates": [{"ad_id": "a"}]}),
    "id a number": _with("x", request_id=17),
    "id empty": _with("x", request_id=""),
    "invalid UTF-8": b'{"request_id":"\xff","candidates":[]}',
    "nested": b"[" * 100_000,
    "5 MB": b'{"x":"' + b"x" * 5_000_000 + b'","request_id":"large"}',
}
SCORED: dict[str, bytes] = {
    "duplicate ads": request("duplicate ads", ["a", "b", "a"]),
    "unknown fields": request("unknown fields", zzz={"deep": [1, {"er": None}]}),
    "values of odd types": _with("values of odd types", user={"id": [1], "age": "x", "tags": {"no": 1}}, context={}),
    "columns": _with("columns", candidates={"ad_id": ["a", "b"], "bid": [1, None], "size": ["2", {}]}),
    "unicode": request("unicode", ["ä", "漢", "\U0001f600"]),
}


def test_each_bad_record_has_its_outcome_and_affects_no_other_record(system: System) -> None:
    bad: list[bytes | None] = [value for value, _ in INVALID.values()]
    bad += [*DEAD.values(), *SCORED.values()]
    good = [request(f"good {i}") for i in range(len(bad) + 1)]
    records: list[bytes | None] = [good[0]]
    for i, value in enumerate(bad):
        records += [value, good[i + 1]]
    with system.scorer() as scorer:
        system.send(records)
        answers = system.answers(len(good) + len(INVALID) + len(SCORED))
        letters = system.read(system.dead_letters, len(DEAD))
        assert scorer.stop() == 0

    for i in range(len(good)):
        assert answers[f"good {i}"]["status"] == "ok"
    for name, (_, hint) in INVALID.items():
        assert answers[name]["status"] == "invalid", name
        assert hint in answers[name]["reason"], (name, answers[name]["reason"])
        assert "ctr" not in answers[name]
    for name in SCORED:
        assert answers[name]["status"] == "ok", (name, answers[name])
    assert answers["duplicate ads"]["ad_id"] == ["a", "b", "a"]
    assert answers["duplicate ads"]["ctr"][0] != answers["duplicate ads"]["ctr"][1]

    assert len(letters) == len(DEAD)
    offsets = {name: 2 * (len(INVALID) + i) + 1 for i, name in enumerate(DEAD)}
    by_offset = {int(letter.headers["dead_letter.offset"]): letter for letter in letters}
    for name, value in DEAD.items():
        letter = by_offset[offsets[name]]
        assert letter.value == value, name
        assert letter.key == b"u1"
        assert letter.headers["dead_letter.topic"].decode() == system.requests
        assert letter.headers["dead_letter.partition"] == b"0"
        assert letter.headers["dead_letter.reason"], name


def test_with_an_id_in_the_headers_a_bad_record_is_answered(system: System) -> None:
    with system.scorer():
        system.send([b"{nonsense"], key=None, headers=[("request_id", b"h1"), ("trace", b"\x01\x02")])
        (answer,) = system.read(system.scores, 1)
    assert answer.json["status"] == "invalid"
    assert answer.json["request_id"] == "h1"
    assert answer.key is None
    assert answer.headers["trace"] == b"\x01\x02"


@pytest.mark.slow
def test_hostile_records_are_dead_lettered_within_the_memory_of_a_worker(system: System, kafka: KafkaBroker) -> None:
    """A name that is not UTF-8, 50 and 300 MB of spaces in some KB, and a million headers in 6 MB."""
    odd = [("tr\udcffce", b"\x01"), ("request_id", b"odd")]
    headers = [("", None)] * 1_000_000

    async def produce() -> None:
        assert clients.UNAVAILABLE, "the clients are patched"
        batches: list[tuple[str | None, list[tuple[bytes, list[Any]]]]] = [
            (None, [(request("odd"), odd), (b"{nonsense", odd[:1])]),
            *((codec, [(b" " * 50_000_000, [])]) for codec in ("gzip", "lz4", "zstd") for _ in range(4)),
            ("zstd", [(b" " * 300_000_000, [])]),
            (None, [(b"headers", headers)]),
            *(("zstd", [(b" " * 30_000_000, [])]) for _ in range(8)),
            *(("zstd", [(b" ", headers)]) for _ in range(8)),
            (None, [(request("good"), [])]),
        ]
        for compression, records in batches:
            producer = AIOKafkaProducer(
                bootstrap_servers=kafka.bootstrap_servers,
                compression_type=compression,
                max_request_size=2**29,
                max_batch_size=2**29,
            )
            await producer.start()
            for value, own in records:
                await producer.send_and_wait(system.requests, value, b"u1", headers=own)
            await producer.stop()

    with system.scorer() as scorer:
        system.send([request(f"warm {i}") for i in range(50)])
        system.answers(50)
        idle = memory(scorer)
        asyncio.run(produce())
        answers = {
            orjson.loads(one.value)["request_id"]: one for one in asyncio.run(received(kafka, system.scores, 52))
        }
        letters = asyncio.run(received(kafka, system.dead_letters, 31))
        used = memory(scorer) - idle
        assert scorer.stop() == 0
    assert orjson.loads(answers["odd"].value)["status"] == orjson.loads(answers["good"].value)["status"] == "ok"
    assert list(answers["odd"].headers) == odd
    stages = Counter(dict(letter.headers)["dead_letter.stage"] for letter in letters)
    assert stages == {b"read": 13 + 1 + 8 + 8, b"decode": 1}
    (nonsense,) = [letter for letter in letters if letter.value == b"{nonsense"]
    assert nonsense.headers[0] == odd[0]
    assert used < 200 * 2**20, f"{used / 2**20:.0f} MiB"


async def received(kafka: KafkaBroker, topic: str, n: int) -> list[ConsumerRecord]:
    """The first n records of a topic. Librdkafka reads no header whose name is not UTF-8."""
    async with asyncio.timeout(ANSWER_S):
        consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest")
        await consumer.start()
        try:
            found: list[ConsumerRecord] = []
            while len(found) < n:
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    found += records
            return found
        finally:
            await consumer.stop()


def memory(scorer: ScorerProcess) -> float:
    """The largest memory of the process so far, in bytes."""
    status = Path(f"/proc/{scorer.pid}/status").read_text("ascii")
    return 1024.0 * int(status.split("VmHWM:")[1].split()[0])
