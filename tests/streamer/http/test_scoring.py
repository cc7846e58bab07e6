"""The stages behind the endpoint: the outcome is that of the same record on a topic. The model servers are fakes."""

import asyncio
import gzip
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import structlog

from sandbox.collector import Collector
from streamer.assembly import Scorer
from streamer.deadline import Deadline
from streamer.formats.ctr_pb2 import Scores
from streamer.http.exchange import Exchange
from streamer.http_service import HttpService
from streamer.settings import Settings
from streamer.testing.model_servers import VirtualServers
from streamer.tracing import export_thread
from streamer.types import F32, BatchInputs, DeadLetter, ModelVersion, Origin, Record, ScoreMessage
from tests.streamer.bad_records import BAD_RECORDS, body, shown
from tests.streamer.extension_package import installed
from tests.streamer.formats.binary_requests import BINARY, by_candidates
from tests.streamer.http.serving import WAIT_S, turns_until
from tests.streamer.rollout.switching import loaded

RULES = Path(__file__).parents[3] / "configs/prometheus/alerts.yml"
SETTINGS: dict[str, dict[str, object]] = {
    "http": {"port": 0},
    "ops": {"port": 0},
    "cache": {"enabled": False},
    "source": {"budget_ms": 20_000, "max_budget_ms": 20_000},
    "predictor": {"poll_interval_ms": 5, "warmup_requests": 0},
    "rollout": {"ramp_s": 0},
}


class Served:
    """A process that answers requests, with a session for them."""

    def __init__(self, service: HttpService, scorer: Scorer, session: aiohttp.ClientSession) -> None:
        self.service, self.scorer, self.session = service, scorer, session

    async def post(self, value: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
        """Status and body of the reply; `_` in the name of a header means `-`."""
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        async with self.session.post("/v1/score", data=BytesIO(value), headers=named) as reply:
            return reply.status, orjson.loads(await reply.read())

    async def on_a_topic(self, value: bytes, headers: Sequence[tuple[str, bytes]] = ()) -> ScoreMessage | DeadLetter:
        """The outcome of the same record of a topic."""
        now = self.service.life.clock()
        record = Record(None, value, tuple(headers), Origin("t", 0, 0), 0, Deadline.after(now, 20_000), now)
        return await self.scorer.pipeline.result(record)


@asynccontextmanager
async def served(servers: VirtualServers, **changes: dict[str, object]) -> AsyncIterator[Served]:
    """A running process, drained at the end of the block."""
    merged = {name: {**SETTINGS.get(name, {}), **changes.get(name, {})} for name in SETTINGS | changes}
    service = HttpService(Settings.model_validate(merged), structlog.get_logger())
    models = service.assembly.models(servers, None)
    await models.refresh()
    nowhere = Exchange()

    async def publish(*_: object) -> None:
        """No topic."""

    scorer = service.assembly.scorer(
        nowhere,
        servers,
        nowhere,
        models=models,
        cache=None,
        publish_shadow=publish,
        publish_rows=publish,
        tracing=service.assembly.tracing(),
    )
    endpoint = service.assembly.endpoint(scorer.pipeline)
    await endpoint.start()
    working = asyncio.create_task(service.work(endpoint, scorer))
    async with asyncio.timeout(WAIT_S), aiohttp.ClientSession(f"http://127.0.0.1:{endpoint.port}") as session:
        await asyncio.sleep(0)
        yield Served(service, scorer, session)
        service.life.stopping.set()
        assert await working is True


@pytest.fixture
async def one() -> AsyncIterator[Served]:
    """A process with version 1."""
    async with served(VirtualServers([loaded(1)], call_s=0.0)) as running:
        yield running


async def test_a_reply_has_the_answer_of_the_topic(one: Served) -> None:
    value = body(candidates=[{"ad_id": f"a{i}", "campaign": f"c{i}"} for i in range(300)])
    code, answer = await one.post(value)
    kept = Exchange()
    record = Record(None, value, (), Origin("t", 3, 7), 0, Deadline.after(one.service.life.clock(), 20_000), 0.0)
    replaced = one.service.assembly.endpoint(one.scorer.pipeline)
    await replaced._process(record, kept)  # noqa: SLF001
    assert kept.value is not None
    on_a_topic = orjson.loads(kept.value)
    assert code == 200
    assert answer.pop("origin") == {"topic": "/v1/score", "partition": 0, "offset": 0}
    assert on_a_topic.pop("origin") == {"topic": "t", "partition": 3, "offset": 7}
    assert answer.pop("ms").keys() == on_a_topic.pop("ms").keys()
    assert answer == on_a_topic
    assert (answer["status"], len(answer["ctr"]), set(answer["source"])) == ("ok", 300, {"model"})


async def test_the_reasons_of_bad_bodies_are_those_of_bad_records(one: Served) -> None:
    """All cases on one process: 400 and the answer, or only the reason of the dead letter; 413 if too large."""
    for value, request_id, reason in BAD_RECORDS:
        code, answer = await one.post(value)
        outcome = await one.on_a_topic(value)
        assert outcome.reason is not None
        assert reason in outcome.reason, shown(value)
        assert answer["reason"] == outcome.reason, shown(value)
        assert code == (413 if "codec.max_record_bytes" in outcome.reason else 400)
        if isinstance(outcome, ScoreMessage) and code == 400:
            assert (answer["request_id"], answer["status"]) == (request_id, "invalid")
        else:
            assert answer.keys() == {"reason"}


async def test_answers_over_http_do_not_hide_that_no_record_is_answered(one: Served) -> None:
    """The alert is about the records of a worker whose requests over HTTP go on."""
    (expression,) = re.findall(r"alert: StreamerNothingAnswered.*?expr: >-(.*?)for:", RULES.read_text(), re.DOTALL)
    names = set(re.findall(r"streamer_\w+", expression))
    registry = one.service.metrics.registry

    def used() -> dict[str, float]:
        samples = (sample for family in registry.collect() for sample in family.samples)
        return {f"{s.name}{s.labels}": s.value for s in samples if s.name in names}

    before = used()
    assert before
    for value in (body(), b"{nonsense"):
        await one.post(value)
    assert used() == before


async def test_the_headers_of_a_request_are_those_of_a_record(one: Served) -> None:
    code, answer = await one.post(b"{nonsense", X_Request_Id="h1")
    assert (code, answer["request_id"], answer["status"]) == (400, "h1", "invalid")
    assert (await one.post(b'{"candidates":[{"ad_id":"a"}]}', X_Request_Id="h1"))[1]["request_id"] == "h1"
    assert (await one.post(body(), X_Request_Id="h1"))[1]["request_id"] == "r1", "the document comes first"
    code, answer = await one.post(body(), X_Request_Id="h1", X_Deadline_Ms="soon")
    assert (code, answer["reason"]) == (400, "deadline_ms: expected milliseconds above 0, got 'soon'")
    code, answer = await one.post(gzip.compress(body(deadline_ms=1e-6)), Content_Encoding="gzip")
    assert (code, answer["status"]) == (504, "expired")
    assert not {"ctr", "reason"} & answer.keys()


async def test_an_unknown_model_is_named(one: Served) -> None:
    code, answer = await one.post(body(model="other"))
    assert (code, answer["reason"]) == (400, "model: 'other' is not served here; 'ctr'")


async def test_a_request_that_a_full_queue_rejects_gets_503_with_priors() -> None:
    async with served(VirtualServers([loaded(1)], call_s=0.0), batching={"max_queued_rows": 1}) as running:
        code, answer = await running.post(body(candidates=[{"ad_id": "a"}, {"ad_id": "b"}]))
        assert (code, answer["status"], answer["source"]) == (503, "fallback", ["prior", "prior"])
        assert answer["reason"].startswith("queue full: ")
        assert (await running.post(body()))[0] == 200


@pytest.mark.parametrize(("fault", "code"), [("RESOURCE_EXHAUSTED", 503), ("UNAVAILABLE", 200)])
async def test_a_full_model_server_is_overload_and_a_failed_one_is_not(fault: str, code: int) -> None:
    servers = VirtualServers([loaded(1)], call_s=0.0)
    async with served(servers) as running:
        servers.servers[0][1].fault = fault
        found, answer = await running.post(body())
        assert (found, answer["status"]) == (code, "fallback")


class Gated(VirtualServers):
    """Servers whose calls wait for `gate`, if it is set."""

    gate: asyncio.Event | None = None

    async def score(self, version: ModelVersion, inputs: BatchInputs, seconds: float) -> F32:
        if self.gate is not None:
            await self.gate.wait()
        return await super().score(version, inputs, seconds)


async def test_the_rows_of_a_client_that_leaves_leave_the_queue() -> None:
    servers = Gated([loaded(1)], call_s=0.0, max_calls=1)
    async with served(servers) as running:
        dispatcher = running.scorer.dispatcher
        servers.calls.clear()  # those of the preparation
        servers.gate = asyncio.Event()
        first = asyncio.create_task(running.post(body()))
        await turns_until(lambda: dispatcher.active_calls > 0)
        second = asyncio.create_task(running.post(body(candidates=[{"ad_id": "b"}] * 300)))
        await turns_until(lambda: dispatcher.queue.queued_rows > 0)
        second.cancel()
        await turns_until(lambda: dispatcher.queue.queued_rows == 0)
        servers.gate.set()
        assert (await first)[0] == 200
        assert (await running.post(body()))[0] == 200
        assert dispatcher.queue.queued_rows == 0
    assert [call.rows for call in servers.calls] == [1, 1]


async def test_users_move_to_a_newer_version_without_a_failed_request() -> None:
    servers = VirtualServers([loaded(1)], call_s=0.0, control_s=0.0)
    async with served(servers) as running:
        assert (await running.post(body()))[1]["model"]["version"] == 1
        servers.servers[0].update(loaded(2))
        while True:
            code, answer = await running.post(body())
            assert (code, answer["status"]) == (200, "ok")
            if answer["model"]["version"] == 2:
                break


async def test_a_canary_takes_users_by_their_key() -> None:
    servers = VirtualServers([loaded(1, 2)], call_s=0.0, control_s=0.0)
    async with served(servers) as running:
        await running.scorer.models.default.canary(1, 0.5)
        versions = {f"u{i}": (await running.post(body(), X_Key=f"u{i}"))[1]["model"]["version"] for i in range(20)}
        assert set(versions.values()) == {1, 2}
        again = {key: (await running.post(body(), X_Key=key))[1]["model"]["version"] for key in versions}
        assert again == versions


async def test_a_drain_answers_the_requests_in_flight() -> None:
    async with served(VirtualServers([loaded(1)], call_s=0.05), batching={"max_wait_ms": 10_000}) as running:
        request = asyncio.create_task(running.post(body()))
        await turns_until(lambda: running.scorer.dispatcher.queue.queued_rows > 0)
        running.service.life.stopping.set()
        code, answer = await request
        assert (code, answer["status"]) == (200, "ok"), "a drain ends the batch delay"
    assert running.service.life.state == "DRAINING"


async def test_a_drain_sends_the_spans_of_sampled_requests() -> None:
    sampled, unsampled = (f"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0{flag}" for flag in (1, 0))
    with Collector() as collector:
        on: dict[str, object] = {"enabled": True, "endpoint": collector.endpoint, "share": 0.0}
        async with served(VirtualServers([loaded(1)], call_s=0.0), tracing=on) as running:
            replies = []
            for headers in ({"traceparent": sampled, "tracestate": "rojo=1"}, {"traceparent": unsampled}, {}):
                async with running.session.post("/v1/score", data=body(), headers=headers) as reply:
                    assert reply.status == 200
                    replies.append(reply.headers.get("traceparent"))
        spans = collector.spans(lambda found: any(span.name == "batch" for span in found))
    (request,) = (span for span in spans if span.name == "POST /v1/score")
    assert replies == [f"00-{request.trace_id}-{request.span_id}-01", unsampled, None]
    assert (request.parent_id, request.state) == ("00f067aa0ba902b7", "rojo=1")
    assert {span.trace_id for span in spans} == {"4bf92f3577b34da6a3ce929d0e0e4736"}


async def test_a_collector_that_does_not_answer_delays_neither_requests_nor_the_drain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(export_thread, "_FLUSH_S", 0.05)
    monkeypatch.setattr(export_thread, "_DELAY_S", 0.01)
    with Collector() as collector:
        collector.accepts.clear()
        on: dict[str, object] = {"enabled": True, "endpoint": collector.endpoint, "share": 1.0}
        async with served(VirtualServers([loaded(1)], call_s=0.0), tracing=on) as running:
            codes = [(await running.post(body()))[0] for _ in range(20)]
        exported = running.service.metrics.registry.get_sample_value(
            "streamer_tracing_spans_total", {"outcome": "exported"}
        )
    assert codes == [200] * 20
    assert exported == 0


@pytest.mark.parametrize("form", ["json", "as_requested"])
async def test_a_binary_request_is_answered_in_the_form_of_the_settings(form: str) -> None:
    good = by_candidates({"request_id": "r"}, texts={"ad_id": ["a", "b"]})
    headers = {"Content-Type": "application/x-protobuf"}
    async with served(VirtualServers([loaded(1)]), sink={"answers": form}) as process:
        async with process.session.post("/v1/score", data=BytesIO(good), headers=headers) as reply:
            assert reply.status == 200
            if form == "json":
                assert reply.content_type == "application/json"
                answer = orjson.loads(await reply.read())
                assert (answer["request_id"], answer["status"], answer["ad_id"]) == ("r", "ok", ["a", "b"])
            else:
                assert reply.content_type == "application/x-protobuf"
                scores = Scores.FromString(await reply.read())
                assert (scores.request_id, scores.status, list(scores.ad_id)) == ("r", "ok", ["a", "b"])
        async with process.session.post("/v1/score", data=BytesIO(b"\x0a"), headers=headers) as reply:
            assert (reply.status, reply.content_type) == (400, "application/json")
            reason = orjson.loads(await reply.read())["reason"]
            assert reason == "record: not valid Protobuf: expected a ctr.v1.BidRequest"
        dead = await process.on_a_topic(b"\x0a", BINARY)
        assert isinstance(dead, DeadLetter)
        assert (dead.stage, dead.reason, dead.value, dead.headers) == ("decode", reason, b"\x0a", BINARY)
        status, answer = await process.post(b'{"request_id": "r"}', Content_Type="avro/binary")
        assert (status, answer["status"]) == (400, "invalid")
        assert answer["reason"].startswith("content-type: expected application/json or application/x-protobuf")


async def test_a_request_by_a_codec_of_another_package_is_answered_in_json(tmp_path: Path) -> None:
    code = """
class Ads:
    content_types = frozenset({"text/csv"})
    def read(self, value):
        if b"," not in value:
            raise ValueError("expected commas")
        request_id, *ads = value.decode().split(",")
        import json
        return json.dumps({"request_id": request_id, "candidates": [{"ad_id": ad} for ad in ads]}).encode()
ads = Ads()
"""
    with installed(tmp_path, code, {"ctr_streamer.codecs": {"ads": "ads"}}):
        settings: dict[str, object] = {"formats": ["ads"]}
        async with served(VirtualServers([loaded(1)]), codec=settings, sink={"answers": "as_requested"}) as process:
            status, answer = await process.post(b"r,a,b", Content_Type="text/csv")
            assert (status, answer["request_id"], answer["status"], answer["ad_id"]) == (200, "r", "ok", ["a", "b"])
            status, answer = await process.post(b"r", Content_Type="text/csv")
            assert (status, answer["reason"]) == (400, "record: text/csv: expected commas")
            dead = await process.on_a_topic(b"r", [("content-type", b"text/csv")])
            assert isinstance(dead, DeadLetter)
            assert (dead.stage, dead.reason) == ("decode", "record: text/csv: expected commas")
