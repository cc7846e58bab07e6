"""The client with real gRPC and REST servers in this process, with injected faults."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import grpc
import numpy as np
import pytest
import structlog

from sandbox.model_server.replies import Context
from streamer.deadline import Deadline
from streamer.errors import BadReplyError, PredictError, VersionGoneError
from streamer.metrics import Metrics
from streamer.scoring.batching import Batch, Ticket
from streamer.serving.identity import Shown
from streamer.serving.messages import OUTPUT
from streamer.serving.predictor import Predictor
from streamer.serving.protos import types_pb2
from streamer.serving.replies import scores_reply, spec_reply
from streamer.settings.sections import PredictorSettings
from streamer.types import Availability, BatchInputs, ModelVersion, ScoreOutput
from tests.streamer.scoring.encoded import encoded
from tests.streamer.serving.model_servers import Server, scores_by_id
from tests.streamer.specs import small_spec

V = ModelVersion("ctr", 3)
# Long enough for a slow machine: a call with this timeout must succeed.
LONG = 60.0


@pytest.fixture(params=["grpc", "rest"], autouse=True)
def protocol(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both protocols keep the same promises."""
    monkeypatch.setattr(Server, "protocol", request.param)
    return str(request.param)


def inputs(rows: int = 4) -> BatchInputs:
    return BatchInputs.whole(encoded(1, rows))


@asynccontextmanager
async def client_of(*servers: Server, **settings: Any) -> AsyncIterator[tuple[Predictor, Metrics]]:
    async with AsyncExitStack() as stack:
        for server in servers:
            await stack.enter_async_context(server.running())
        metrics = Metrics()
        addresses = tuple(server.address for server in servers)
        predictor = Predictor(PredictorSettings(protocol=Server.protocol, addresses=addresses, **settings), metrics)
        stack.push_async_callback(predictor.close)
        yield predictor, metrics


def retries(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("streamer_predictor_retries_total")


def cut_short(reply: Any) -> Any:
    """The reply without the last byte of its scores."""
    tensor = reply.outputs["ctr"]
    tensor.tensor_content = tensor.tensor_content[:-1]
    return reply


async def test_scores_come_back_in_order() -> None:
    async with client_of(Server()) as (predictor, metrics):
        ctr = await predictor.score(V, inputs(), LONG)
        assert ctr.tolist() == pytest.approx([0.01, 0.010001, 0.010002, 0.010003])
        assert retries(metrics) == 0


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda _: scores_reply(np.zeros(3, np.float32)), "expected 4 scores, got 3 of shape \\[3\\]"),
        (
            lambda _: scores_reply(np.array([-np.inf, np.nan, np.nan, -1], np.float32)),
            "2 nan, 1 infinite, 1 out_of_range",
        ),
        (
            lambda _: scores_reply(np.full(4, 5, np.float32), as_content=False),
            "no score is in \\[0, 1\\]: 4 out_of_range",
        ),
    ],
)
async def test_a_bad_reply_is_an_error_and_is_retried_once(answer: Callable[[Any], Any], message: str) -> None:
    server = Server(answer)
    async with client_of(server) as (predictor, metrics):
        with pytest.raises(BadReplyError, match=message):
            await predictor.score(V, inputs(), LONG)
        assert server.calls == 2
        assert retries(metrics) == 1


@pytest.mark.parametrize("protocol", ["grpc"], indirect=True)
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda _: scores_reply(np.zeros(4, np.float32), types_pb2.DT_DOUBLE), "expected float32"),
        (lambda _: cut_short(scores_reply(np.zeros(4, np.float32))), "expected 4 scores, got 15 bytes"),
    ],
)
async def test_a_tensor_with_wrong_contents_is_an_error(answer: Callable[[Any], Any], message: str) -> None:
    async with client_of(Server(answer)) as (predictor, _):
        with pytest.raises(BadReplyError, match=message):
            await predictor.score(V, inputs(), LONG)


async def test_a_failed_call_is_retried_on_another_server() -> None:
    bad, good = Server(grpc.StatusCode.UNAVAILABLE), Server()
    async with client_of(bad, good, circuit_failures=2) as (predictor, metrics):
        for _ in range(6):
            assert len(await predictor.score(V, inputs(), LONG)) == 4
        assert good.calls == 6
        assert bad.calls <= 2, "its circuit is open after two failures"
        assert metrics.registry.get_sample_value(
            "streamer_predictor_circuit_open", {"address": bad.address, "model": "ctr"}
        ) == (1.0 if bad.calls == 2 else 0.0)


FAILS_AT_ONCE = ["FAILED_PRECONDITION", "UNIMPLEMENTED", "PERMISSION_DENIED", "INVALID_ARGUMENT", "DATA_LOSS"]


@pytest.mark.parametrize("code", FAILS_AT_ONCE)
async def test_a_server_that_fails_at_once_attracts_no_calls(code: str) -> None:
    bad, good = Server(grpc.StatusCode[code]), Server()
    async with client_of(bad, good) as (predictor, _):
        for _ in range(60):
            assert len(await predictor.score(V, inputs(), LONG)) == 4
        assert good.calls == 60
        assert bad.calls <= 8


async def test_a_broken_model_affects_no_other_model_of_its_server() -> None:
    def answer(request: Any) -> Any:
        is_broken = request.model_spec.name == "cvr"
        return scores_reply(np.full(4, 5, np.float32)) if is_broken else scores_by_id(request)

    cvr, server = ModelVersion("cvr", 1), Server(answer)
    with structlog.testing.capture_logs() as logs:
        async with client_of(server, models=("ctr", "cvr")) as (predictor, metrics):
            for _ in range(10):
                for _ in range(4):
                    with pytest.raises(PredictError, match="INVALID_REPLY: "):
                        await predictor.score(cvr, inputs(), LONG)
                assert len(await predictor.score(V, inputs(), LONG)) == 4
            open_by_model = {
                model: metrics.registry.get_sample_value(
                    "streamer_predictor_circuit_open", {"address": server.address, "model": model}
                )
                for model in ("ctr", "cvr")
            }
    assert open_by_model == {"ctr": 0.0, "cvr": 1.0}
    [line] = [line for line in logs if line["event"] == "circuit open"]
    assert (line["model"], line["address"]) == ("cvr/1", server.address)
    assert "4 out_of_range" in line["error"]


async def test_a_row_without_a_valid_score_affects_no_other_row() -> None:
    """Also among the warm-up requests of a new version."""

    def answer(request: Any) -> Any:
        reply = scores_by_id(request)
        ctr = np.frombuffer(reply.outputs["ctr"].tensor_content, np.float32).copy()
        ctr[:3] = np.nan, np.inf, -0.1
        return scores_reply(ctr)

    with structlog.testing.capture_logs() as logs:
        async with client_of(Server(answer), circuit_failures=1) as (predictor, metrics):
            for _ in range(3):
                ctr = await predictor.score(V, inputs(10), LONG)
                assert np.isnan(ctr).tolist() == [True] * 3 + [False] * 7
            await predictor.control.warm(V, [inputs(10)])
            for reason in ("nan", "infinite", "out_of_range"):
                labels = {"model": "ctr", "reason": reason}
                assert metrics.registry.get_sample_value("streamer_predictor_invalid_scores_total", labels) == 3
            assert retries(metrics) == 0
    assert {(line["event"], line["model"]) for line in logs} == {("scores not valid", "ctr/3")}
    assert {line["reason"] for line in logs} == {"nan", "infinite", "out_of_range"}


async def test_a_reply_with_half_of_the_scores_is_used_and_counts_as_a_failure() -> None:
    server = Server(lambda _: scores_reply(np.array([0.5, np.nan], np.float32)))
    async with client_of(server, circuit_failures=2) as (predictor, _):
        for _ in range(2):
            assert np.isnan(await predictor.score(V, inputs(2), LONG)).tolist() == [False, True]
        with pytest.raises(PredictError, match="INVALID_REPLY: the circuit of every server is open for ctr/3"):
            await predictor.score(V, inputs(2), LONG)


async def test_a_request_that_the_model_rejects_does_not_fail_the_others_of_its_batch() -> None:
    class Picky(Server):
        async def predict(self, request: Any, context: Context) -> Any:
            if 3 in np.frombuffer(request.inputs["request_ids"].tensor_content, np.int32):
                self.calls += 1
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Tensor had NaN values")
            return await super().predict(request, context)

    requests = [encoded(tag, 3) for tag in (10, 20, 3, 40, 50)]
    now = Deadline.after(0.0, 1e3)
    tickets = [(Ticket(V, one, np.arange(3), now, 0.0), np.arange(3)) for one in requests]
    batch = Batch(V, tickets, "full", 15, now).inputs()
    server = Picky()
    async with client_of(server) as (predictor, metrics):
        ctr = await predictor.score(V, batch, LONG)
        assert np.flatnonzero(np.isnan(ctr)).tolist() == [6, 7, 8]
        right = (batch.candidate_ids[:, 0] / np.float32(1e6)).astype(np.float32)
        assert np.array_equal(ctr[~np.isnan(ctr)], right[~np.isnan(ctr)])
        labels = {"model": "ctr", "reason": "rejected"}
        assert metrics.registry.get_sample_value("streamer_predictor_invalid_scores_total", labels) == 3
        assert server.calls == 5
        calls = (predictor.score(V, batch, LONG) for _ in range(10))
        assert any(
            isinstance(outcome, PredictError) for outcome in await asyncio.gather(*calls, return_exceptions=True)
        )
        assert server.calls < 30, "the retry budget limits the additional calls"


async def test_a_full_server_keeps_its_circuit_closed_and_another_one_is_called() -> None:
    full, free = Server(busy=True), Server()
    async with client_of(full, free, circuit_failures=1) as (predictor, metrics):
        for _ in range(20):
            assert len(await predictor.score(V, inputs(), LONG)) == 4
        labels = {"address": full.address, "model": "ctr"}
        assert metrics.registry.get_sample_value("streamer_predictor_circuit_open", labels) == 0
        free.answer = grpc.StatusCode.UNAVAILABLE
        full.busy = False
        assert len(await predictor.score(V, inputs(), LONG)) == 4


async def test_the_fault_of_a_message_that_is_too_large_is_the_requests() -> None:
    class Small(Server):
        async def predict(self, request: Any, context: Context) -> Any:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "SERVER: Received message larger than max (9 vs. 4)"
            )

    async with client_of(Small(), Small(), circuit_failures=1) as (predictor, metrics):
        for _ in range(2):
            with pytest.raises(PredictError, match=r"MESSAGE_TOO_LARGE: .*\(9 vs. 4\)"):
                await predictor.score(V, inputs(), LONG)
        assert retries(metrics) == 0


async def test_a_server_without_memory_for_a_call_is_not_called_until_the_deadline() -> None:
    class Small(Server):
        async def predict(self, request: Any, context: Context) -> Any:
            self.calls += 1
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "OOM when allocating tensor with shape[1200,512] and type float"
            )

    server = Small()
    async with client_of(server, circuit_failures=2) as (predictor, _):
        with pytest.raises(PredictError, match="INTERNAL: OOM when allocating"):
            await predictor.score(V, inputs(), LONG)
        with pytest.raises(PredictError, match="circuit of every server is open"):
            await predictor.score(V, inputs(), LONG)
        assert server.calls == 2


async def test_a_server_that_hangs_delays_questions_and_warm_ups_once() -> None:
    hung, good = Server(hangs=True, spec=small_spec().to_json()), Server(spec=small_spec().to_json())
    async with client_of(hung, good, control_timeout_ms=500) as (predictor, _):
        start = time.monotonic()
        await predictor.control.warm(V, [inputs()] * 16)
        assert (hung.calls, good.calls) == (1, 16)
        assert 0.4 < time.monotonic() - start < 5.0, "all 16 calls have one timeout"
        hung.silent = True
        start = time.monotonic()
        for _ in range(3):
            assert (await predictor.control.available("ctr")).everywhere == {3}
            assert await predictor.control.feature_spec(V)
        assert time.monotonic() - start < 0.5 * 3, "it is not waited for again"


async def test_warm_ups_of_which_few_fail_succeed() -> None:
    outcomes: list[Any] = []

    def answer(request: Any) -> Any:
        return scores_reply(np.full(4, outcomes.pop(), np.float32))

    async with client_of(Server(answer)) as (predictor, _):
        outcomes[:] = [0.1, np.nan, 0.1, np.nan]
        await predictor.control.warm(V, [inputs()] * 4)
        outcomes[:] = [0.1, np.nan, np.nan, np.nan]
        with pytest.raises(BadReplyError, match="4 nan"):
            await predictor.control.warm(V, [inputs()] * 4)


async def test_a_call_ends_with_its_channel_and_a_cancelled_one_is_cancelled() -> None:
    server = Server(hangs=True)
    async with client_of(server) as (predictor, _):
        calls = [asyncio.create_task(predictor.score(V, inputs(), LONG)) for _ in range(2)]
        async with asyncio.timeout(LONG):
            await server.hung.wait()
        calls[0].cancel()
        await predictor.close()
        with pytest.raises(asyncio.CancelledError):
            await calls[0]
        with pytest.raises(PredictError, match=r"CANCELLED|CLOSED|UNAVAILABLE"):
            await calls[1]


async def test_a_fault_of_the_request_is_not_retried() -> None:
    server = Server(grpc.StatusCode.INVALID_ARGUMENT)
    async with client_of(server) as (predictor, _):
        for _ in range(8):
            with pytest.raises(PredictError, match="INVALID_ARGUMENT: injected fault"):
                await predictor.score(V, inputs(), LONG)
        assert server.calls == 8, "it does not open the circuit either"


async def test_a_call_ends_at_its_deadline() -> None:
    server = Server(hangs=True)
    async with client_of(server) as (predictor, _):
        with pytest.raises(PredictError, match="DEADLINE_EXCEEDED"):
            await predictor.score(V, inputs(), 0.2)


async def test_without_time_no_call_is_sent() -> None:
    server = Server()
    async with client_of(server) as (predictor, _):
        with pytest.raises(PredictError, match="no time was left"):
            await predictor.score(V, inputs(), 0.0)
        assert server.calls == 0


async def test_with_every_circuit_open_a_call_fails_at_once_and_a_later_one_succeeds() -> None:
    server = Server(grpc.StatusCode.UNAVAILABLE)
    async with client_of(server, circuit_failures=2, circuit_open_ms=300, circuit_max_open_ms=300) as (predictor, _):
        with pytest.raises(PredictError, match="injected fault"):
            await predictor.score(V, inputs(), LONG)
        with pytest.raises(PredictError, match="the circuit of every server is open"):
            await predictor.score(V, inputs(), LONG)
        server.answer = scores_by_id
        async with asyncio.timeout(LONG):
            while True:
                try:
                    assert len(await predictor.score(V, inputs(), LONG)) == 4
                    break
                except PredictError:
                    await asyncio.sleep(0.05)


async def test_a_version_on_one_server_is_called_there() -> None:
    without, having = Server(grpc.StatusCode.NOT_FOUND), Server()
    async with client_of(without, having) as (predictor, _):
        for _ in range(3):
            assert len(await predictor.score(V, inputs(), LONG)) == 4
        having.answer = grpc.StatusCode.NOT_FOUND
        with pytest.raises(VersionGoneError):
            await predictor.score(V, inputs(), LONG)


async def test_a_call_to_a_server_without_the_version_needs_no_retry_budget() -> None:
    without, having = Server(strict=True, versions=(2,)), Server()
    async with client_of(without, having, retry_share=0.0) as (predictor, _):
        while predictor._servers.replicas.take_retry("ctr"):  # noqa: SLF001  no call spends the budget alone
            pass
        for _ in range(2):
            assert len(await predictor.score(V, inputs(), LONG)) == 4
        assert (without.calls, having.calls) == (0, 2)


async def test_a_version_is_not_gone_while_a_full_server_has_it() -> None:
    without, full = Server(grpc.StatusCode.NOT_FOUND), Server(busy=True)
    async with client_of(without, full) as (predictor, _):
        replicas = predictor._servers.replicas.of(V)  # noqa: SLF001  as after calls of these lengths
        replicas[without.address].latency_s, replicas[full.address].latency_s = LONG / 2, LONG
        with pytest.raises(PredictError, match="RESOURCE_EXHAUSTED: busy"):
            await predictor.score(V, inputs(), LONG)
        assert full.calls == 1, "no time is left after a wait"


async def test_a_timeout_names_the_rejection_that_took_the_calls_time() -> None:
    class FullThenSilent(Server):
        async def predict(self, request: Any, context: Context) -> Any:
            if not self.busy:
                await asyncio.Event().wait()
            self.busy = False
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")

    said = "DEADLINE_EXCEEDED: .*, after RESOURCE_EXHAUSTED: Server Threadpool Exhausted"
    async with client_of(FullThenSilent(busy=True)) as (predictor, _):
        with pytest.raises(PredictError, match=said):
            await predictor.score(V, inputs(), 0.5)


async def test_servers_that_answer_say_which_versions_are_available() -> None:
    one, two, three = Server(versions=(1, 2, 3)), Server(versions=(2, 3, 4)), Server()
    async with client_of(one, two, three) as (predictor, _):
        assert await predictor.control.available("ctr") == Availability(frozenset({1, 2, 3, 4}), frozenset({3}))
        three.answer = grpc.StatusCode.UNAVAILABLE
        assert await predictor.control.available("ctr") == Availability(frozenset({1, 2, 3, 4}), frozenset({2, 3}))
        two.versions = ()
        assert await predictor.control.available("ctr") == Availability(frozenset({1, 2, 3}), frozenset({1, 2, 3}))
        one.answer = two.answer = grpc.StatusCode.NOT_FOUND
        with pytest.raises(PredictError, match="UNAVAILABLE"):
            await predictor.control.available("ctr")
        three.answer = grpc.StatusCode.NOT_FOUND
        with pytest.raises(VersionGoneError):
            await predictor.control.available("ctr")


async def test_a_label_is_read_from_the_servers_that_answer() -> None:
    one, two = (Server(spec=small_spec().to_json(), versions=(1, 2), labels={"stable": 1}) for _ in range(2))
    async with client_of(one, two) as (predictor, _):
        two.answer = grpc.StatusCode.UNAVAILABLE
        assert await predictor.control.labelled("ctr", "stable") == 1
        one.answer = grpc.StatusCode.UNAVAILABLE
        with pytest.raises(PredictError, match="UNAVAILABLE: label 'stable' of 'ctr': injected fault"):
            await predictor.control.labelled("ctr", "stable")


async def test_a_version_is_prepared_on_a_server_that_rejects_calls_because_it_is_full() -> None:
    class Full(Server):
        async def predict(self, request: Any, context: Context) -> Any:
            self.busy = not self.busy
            if self.busy:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")
            return await super().predict(request, context)

    server = Full(spec=small_spec().to_json())
    async with client_of(server) as (predictor, _):
        assert await predictor.control.feature_spec(V)
        await predictor.control.warm(V, [inputs()] * 3)
        (found,) = (await predictor.control.show(V, inputs(), has_spec=True)).values()
        assert isinstance(found, Shown)


async def test_a_server_that_stays_full_delays_a_question_by_half_a_second() -> None:
    server = Server(grpc.StatusCode.RESOURCE_EXHAUSTED)
    async with client_of(server, control_timeout_ms=1000 * LONG) as (predictor, _):
        start = time.monotonic()
        with pytest.raises(PredictError, match="RESOURCE_EXHAUSTED"):
            await predictor.control.available("ctr")
        assert time.monotonic() - start < LONG / 4


async def test_a_spec_that_is_not_text_is_a_bad_reply() -> None:
    class Binary(Server):
        async def predict(self, request: Any, context: Context) -> Any:
            reply = spec_reply("")
            reply.outputs["spec"].string_val[0] = b"\xff"
            return reply

    async with client_of(Binary()) as (predictor, _):
        with pytest.raises(BadReplyError, match=r"ctr/3: its feature_spec signature returned no string"):
            await predictor.control.feature_spec(V)


async def test_warm_up_calls_every_server_and_fails_if_all_fail() -> None:
    one, two = Server(), Server()
    async with client_of(one, two) as (predictor, _):
        await predictor.control.warm(V, [inputs()])
        assert (one.calls, two.calls) == (1, 1)
        one.answer = grpc.StatusCode.UNAVAILABLE
        await predictor.control.warm(V, [inputs()])
        two.answer = grpc.StatusCode.UNAVAILABLE
        with pytest.raises(PredictError, match="UNAVAILABLE"):
            await predictor.control.warm(V, [inputs()])


@dataclass
class Flat:
    """A flat signature with this name."""

    name: str
    output: ScoreOutput = OUTPUT

    def tensors(self, batch: BatchInputs) -> dict[str, Any]:
        return {"candidate_ids": batch.candidate_ids}


async def test_a_version_with_a_flat_signature_is_called_with_it() -> None:
    signatures: list[str] = []

    def answer(request: Any) -> Any:
        signatures.append(request.model_spec.signature_name)
        return scores_by_id(request)

    flat = replace(V, flat=Flat("custom"))
    async with client_of(Server(answer)) as (predictor, _):
        await predictor.score(flat, inputs(), LONG)
        await predictor.control.warm(flat, [inputs()])
        await predictor.score_shadow(flat, inputs(), LONG)
        await predictor.score(V, inputs(), LONG)
    assert signatures == ["custom"] * 3 + ["score"]
    assert flat == V, "the signature is not a part of the identity: caches and latency models are by version"


@dataclass
class TwoRows(Flat):
    """A signature that takes two rows."""

    output: ScoreOutput = ScoreOutput(OUTPUT.name, padded_rows=2)  # noqa: RUF009

    def tensors(self, batch: BatchInputs) -> dict[str, Any]:
        ids = batch.candidate_ids
        return {"candidate_ids": ids if len(ids) == 2 else np.vstack([ids, ids])}


async def test_a_version_of_a_fixed_size_gets_a_batch_in_pieces() -> None:
    rejected = inputs(5).candidate_ids[2, 0]

    def answer(request: Any) -> Any:
        ids = np.frombuffer(request.inputs["candidate_ids"].tensor_content, np.int32)
        sizes.append(len(ids))
        # A reply without scores for one piece; the others keep theirs.
        return scores_reply(np.zeros(0, np.float32)) if fails and rejected in ids else scores_by_id(request)

    flat, batch, sizes = replace(V, flat=TwoRows("custom")), inputs(5), list[int]()
    expected = (batch.candidate_ids[:, 0] / np.float32(1e6)).tolist()
    fails = False
    async with client_of(Server(answer)) as (predictor, metrics):
        assert (await predictor.score(flat, batch, LONG)).tolist() == pytest.approx(expected)
        assert (await predictor.score_shadow(flat, batch, LONG)).tolist() == pytest.approx(expected)
        await predictor.control.warm(flat, [batch])
        assert set(sizes) == {2}
        fails = True
        found = await predictor.score(flat, batch, LONG)
        assert np.isnan(found).tolist() == [False, False, True, True, False]
        labels = {"model": "ctr", "code": "INVALID_REPLY"}
        assert metrics.registry.get_sample_value("streamer_predictor_errors_total", labels) == 1


async def test_the_calls_of_one_batch_in_pieces_keep_the_limit_of_the_server() -> None:
    """The limit allows one call at a time until eight have run alone; calls of one batch are no exception."""
    active, most = 0, list[int]()

    class Counting(Server):
        async def predict(self, request: Any, context: Context) -> Any:
            nonlocal active
            active += 1
            most.append(active)
            reply = await super().predict(request, context)
            active -= 1
            return reply

    flat = replace(V, flat=TwoRows("custom"))
    async with client_of(Counting()) as (predictor, _):
        assert len(await predictor.score(flat, inputs(40), LONG)) == 40
        assert most[:8] == [1] * 8
        assert predictor.calls_allowed() > 1


async def test_a_server_may_be_removed_between_two_parts_of_a_shadow_call() -> None:
    def answer(request: Any) -> Any:
        predictor._servers.channels = {}  # noqa: SLF001  as after a look-up of its name
        return scores_by_id(request)

    async with client_of(Server(answer)) as (predictor, _):
        channels = predictor._servers.channels  # noqa: SLF001
        assert len(await predictor.score_shadow(replace(V, flat=TwoRows("custom")), inputs(4), LONG)) == 4
        predictor._servers.channels = channels  # noqa: SLF001  for `close`
