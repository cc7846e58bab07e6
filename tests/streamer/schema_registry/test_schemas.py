"""Schemas of requests are checked beside the records, those of the topics at the start."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import orjson
import pytest
import structlog

from streamer.deadline import Deadline
from streamer.errors import ConfigError, UnreachableError
from streamer.formats.frames import prefix, schema_id
from streamer.metrics import Metrics
from streamer.schema_registry.schemas import MAX_IDS, RegistrySchemas
from streamer.settings import Settings
from streamer.testing.model_servers import VirtualServers
from streamer.testing.virtual_loop import virtual
from streamer.types import Header, Origin, Record
from tests.streamer.formats.binary_requests import by_candidates
from tests.streamer.formats.test_compatibility import TEXT
from tests.streamer.rollout.switching import Worker, loaded
from tests.streamer.schema_registry.fakes import FakeRegistry

MOVED = TEXT.replace("repeated bytes candidates = 5", "repeated string candidates = 5")
REASON = "BidRequest.candidates: expected repeated bytes, got repeated string"
REQUESTS, ANSWERS = "bid-requests-value", "ctr-scores-value"


def framed(number: int, headers: tuple[Header, ...] = ()) -> Record:
    return record(prefix(number, [0]) + b"any", headers)


def record(value: bytes | None, headers: tuple[Header, ...] = ()) -> Record:
    return Record(b"u1", value, headers, Origin("requests", 0, 0), 0, Deadline.after(0.0, 500.0), 0.0)


class Schemas:
    """The schemas of a registry, and what became of lookups."""

    def __init__(self, client: FakeRegistry, **settings: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        self.metrics, self.tasks = Metrics(), list[asyncio.Task[None]]()

        def spawn(work: Coroutine[Any, Any, None], name: str) -> None:
            self.tasks.append(loop.create_task(work, name=name))

        known = Settings.model_validate({"registry": {"url": "http://here"}, **settings})
        log = structlog.get_logger()
        self.found = RegistrySchemas(client, known, self.metrics, log, spawn=spawn, clock=loop.time)
        self.rejection = self.found.rejection

    async def settle(self) -> None:
        await asyncio.gather(*self.tasks)

    def counted(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"streamer_registry_{name}_total", labels)


@virtual
async def test_records_of_an_incompatible_schema_are_rejected_after_its_lookup() -> None:
    registry = FakeRegistry()
    good, bad = registry.add("a", TEXT), registry.add("b", MOVED)
    avro = registry.add("c", '{"type": "string"}', "AVRO")
    schemas = Schemas(registry)
    for number in (good, bad, avro):
        assert schemas.rejection(framed(number)) is schemas.rejection(framed(number)) is None, "not known yet"
    await schemas.settle()
    assert schemas.rejection(framed(good)) is None
    assert schemas.rejection(framed(bad)) == f"record: schema {bad}: {REASON}"
    assert schemas.rejection(framed(avro)) == f"record: schema {avro}: expected PROTOBUF, got 'AVRO'"
    assert registry.calls == [good, bad, avro], "one lookup of an id at a time"
    assert schemas.counted("lookups", outcome="incompatible") == schemas.counted("rejected_records") == 2
    assert schemas.counted("lookups", outcome="compatible") == 1


@virtual
async def test_a_record_without_a_prefix_causes_no_lookup() -> None:
    registry = FakeRegistry()
    schemas = Schemas(registry)
    for value in (None, b"", b"{}", b"\x0a\x02{}"):
        assert schemas.rejection(record(value)) is None
    assert schemas.rejection(framed(1, (("content-type", b"application/x-own"),))) is None
    assert schemas.tasks == []


@virtual
async def test_a_lookup_without_a_result_is_repeated_later() -> None:
    registry = FakeRegistry()
    registry.down = True
    schemas = Schemas(registry)
    assert schemas.rejection(framed(1)) is None
    await schemas.settle()
    registry.down = False
    assert registry.add("b", MOVED) == 1
    assert schemas.rejection(framed(1)) is None
    assert registry.calls == [1], "not before its time"
    await asyncio.sleep(31)  # of the virtual clock
    assert schemas.rejection(framed(1)) is None
    await schemas.settle()
    assert REASON in (schemas.rejection(framed(1)) or "")
    assert schemas.counted("lookups", outcome="failed") == 1


@virtual
async def test_a_registry_that_hangs_neither_delays_records_nor_gets_many_calls() -> None:
    registry = FakeRegistry()
    registry.seconds = 3600.0
    schemas, now = Schemas(registry), asyncio.get_running_loop().time
    start = now()
    for number in range(100):
        assert schemas.rejection(framed(number)) is None
    await asyncio.sleep(0)
    assert len(registry.calls) == len(schemas.tasks) == 4
    await schemas.settle()
    assert now() - start < 10, "each lookup has its own bound"
    assert schemas.counted("lookups", outcome="failed") == 4


@virtual
async def test_no_schema_ends_the_process() -> None:
    registry = FakeRegistry()
    number = registry.add("a", "message A { oneof b { " + "oneof c { " * 10_000)
    schemas = Schemas(registry)
    schemas.rejection(framed(number))
    await schemas.settle()
    assert schemas.rejection(framed(number)) is None
    assert schemas.counted("lookups", outcome="failed") == 1


@virtual
async def test_the_number_of_known_ids_is_bounded() -> None:
    registry = FakeRegistry()
    schemas = Schemas(registry)
    for number in range(MAX_IDS + 10):
        schemas.rejection(framed(number))
        await schemas.settle()
    assert schemas.counted("lookups", outcome="unknown") == MAX_IDS + 10
    schemas.rejection(framed(MAX_IDS + 9))
    schemas.rejection(framed(0))
    await schemas.settle()
    assert registry.calls[-2:] == [MAX_IDS + 9, 0], "the oldest id is forgotten, a new one is known"


@virtual
async def test_the_start_rejects_schemas_that_do_not_fit() -> None:
    registry = FakeRegistry()
    schemas = Schemas(registry)
    await schemas.found.check()
    assert (schemas.found.answer_prefix, registry.by_subject) == (b"", {}), "answers are JSON"
    registry.add(REQUESTS, TEXT)
    await schemas.found.check()
    registry.add(REQUESTS, MOVED)
    with pytest.raises(ConfigError, match=f"subject '{REQUESTS}' version 2: {REASON}") as wrong:
        await schemas.found.check()
    assert not isinstance(wrong.value, UnreachableError), "not retried"
    registry.add(REQUESTS, "{}", "JSON")
    with pytest.raises(ConfigError, match="version 3: expected PROTOBUF, got 'JSON'"):
        await schemas.found.check()
    registry.down = True
    with pytest.raises(UnreachableError):
        await schemas.found.check()


@virtual
async def test_the_schema_of_the_answers_is_registered_or_only_used() -> None:
    registry, sink = FakeRegistry(), {"answers": "as_requested"}
    only_used = {"url": "http://here", "register_answers": False}
    with pytest.raises(ConfigError, match=f"subject '{ANSWERS}' is missing: register ctr.proto, or set"):
        await Schemas(registry, sink=sink, registry=only_used).found.check()
    schemas = Schemas(registry, sink=sink)
    for _ in range(2):
        await schemas.found.check()
        assert schemas.found.answer_prefix == prefix(1, [4])
    # An older schema of answers, in which they are the first message.
    scores = TEXT[TEXT.index("message Scores") :].replace("AdsPosition ads = 11;", "")
    number = registry.add(ANSWERS, scores)
    schemas = Schemas(registry, sink=sink, registry=only_used)
    await schemas.found.check()
    assert schemas.found.answer_prefix == prefix(number, [0])
    registry.add(ANSWERS, TEXT.replace("repeated float ctr", "repeated double ctr"))
    with pytest.raises(ConfigError, match=r"version 3: Scores\.ctr: expected repeated float, got repeated double"):
        await Schemas(registry, sink=sink).found.check()


@virtual
async def test_the_pipeline_rejects_records_of_an_incompatible_schema_only() -> None:
    registry = FakeRegistry()
    good, bad = registry.add("a", TEXT), registry.add("b", MOVED)
    schemas = Schemas(registry)
    worker = Worker(VirtualServers([loaded(1)]), schemas=schemas.found)
    await worker.start()
    document = {"request_id": "r", "user": {"id": "u1", "sex": "f", "likes": ["x"], "age": 20}, "context": {"hour": 7}}
    request = by_candidates(document, texts={"ad_id": ["a"], "campaign": ["c"]}, numbers={"bid": [1.0]})
    for offset, number in enumerate((good, bad, good, bad)):
        value, now = prefix(number, [0]) + request, worker.loop.time()
        assert schema_id(value) == number
        origin = Origin("requests", 0, offset)
        await worker.pipeline.answer(Record(b"u1", value, (), origin, 0, Deadline.after(now, 500.0), now))
        await schemas.settle()
    found = [orjson.loads(orjson.dumps(worker.answers[offset][0])) for offset in range(4)]
    assert [answer["status"] for answer in found] == ["ok", "ok", "ok", "invalid"]
    assert found[3]["request_id"] == "r"
    assert found[3]["reason"] == f"record: schema {bad}: {REASON}"
