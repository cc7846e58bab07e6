"""The simulated model server: its answers and their time, on a virtual clock."""

import asyncio
from typing import Any, cast

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.model_server.simulated import Fault, SimulatedServer, calls_of, set_fault
from streamer.errors import PredictError, VersionGoneError
from streamer.features import Layout
from streamer.serving.messages import OUTPUT, read_scores, score_request
from streamer.serving.predictor import Predictor
from streamer.settings.sections import PredictorSettings
from streamer.testing.virtual_loop import virtual
from streamer.types import BatchInputs, ModelVersion
from tests.streamer.scoring.encoded import encoded
from tests.streamer.specs import small_spec

SPEC = small_spec().to_json()
V = ModelVersion("ctr", 1)
LONG = 60.0


def inputs(rows: int, first: int = 1) -> BatchInputs:
    return BatchInputs.whole(encoded(first, rows))


class AbortedError(Exception):
    """Raised by `Context.abort`."""


class Context:
    """The part of a call's context that the server uses."""

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise AbortedError(code.name, details)


def slow(workers: int = 1) -> SimulatedServer:
    return SimulatedServer(SPEC, fixed_s=1.0, per_row_s=0.01, workers=workers)


async def ask(server: SimulatedServer, rows: int) -> float:
    """The time at which the scores arrive."""
    context: Any = Context()
    await server.predict(score_request(V, inputs(rows))[0], context)
    return asyncio.get_running_loop().time()


@virtual
async def test_a_call_takes_a_fixed_time_and_one_for_each_row() -> None:
    start = asyncio.get_running_loop().time()
    assert await ask(slow(), 50) - start == pytest.approx(1.5)


@virtual
async def test_calls_beyond_the_workers_wait() -> None:
    server, start = slow(workers=2), asyncio.get_running_loop().time()
    ends = await asyncio.gather(*(ask(server, rows) for rows in (100, 200, 300, 0)))
    assert [end - start for end in ends] == pytest.approx([2.0, 3.0, 6.0, 4.0])
    assert server.calls == 4


@virtual
async def test_calls_beyond_the_workers_are_rejected_on_request() -> None:
    server = slow(workers=2)
    server.rejects = True
    outcomes = await asyncio.gather(*(ask(server, 100) for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [float, float, AbortedError]
    assert server.calls == 2
    server.resize(1)
    taken = asyncio.create_task(ask(server, 100))
    await asyncio.sleep(1.0)
    server.resize(2)
    await ask(server, 100)
    with pytest.raises(AbortedError, match="Server Threadpool Exhausted"):
        await asyncio.gather(*(ask(server, 100) for _ in range(3)))
    await taken


@virtual
async def test_a_cancelled_call_is_completed() -> None:
    server, start = slow(), asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ask(server, 100), 0.5)
    assert await ask(server, 100) - start == pytest.approx(4.0)


@given(st.integers(1, 4), st.lists(st.tuples(st.floats(0, 5), st.integers(0, 500)), min_size=1, max_size=20))
def test_at_most_as_many_calls_as_workers_run_at_once(workers: int, calls: list[tuple[float, int]]) -> None:
    server, now = slow(workers), 0.0
    busy: list[tuple[float, float]] = []
    for pause, rows in calls:
        now += pause
        end = now + server.accept(rows, now)
        busy.append((end - 1.0 - 0.01 * rows, end))
        assert busy[-1][0] >= now - 1e-9
    for start, _ in busy:
        assert sum(other <= start + 1e-9 < end - 1e-9 for other, end in busy) <= workers


async def test_it_answers_all_calls_of_the_scorers_client() -> None:
    simulated = SimulatedServer(SPEC, fixed_s=0.0, per_row_s=0.0)
    server, port = simulated.listen(0)
    await server.start()
    predictor = Predictor(PredictorSettings(addresses=(f"127.0.0.1:{port}",)))
    try:
        assert (await predictor.control.available("ctr")).everywhere == {1}
        assert await predictor.control.feature_spec(V) == SPEC
        taken = (await predictor.control.signature(V, "score")).inputs
        assert taken["candidate_ids"].dims == (-1, Layout(small_spec()).id_width("candidate"))
        assert taken["row_to_request"].dims == (-1,)
        ctr = await predictor.score(V, inputs(30), LONG)
        assert ((ctr >= 0.01) & (ctr <= 0.11)).all()
        assert len(np.unique(ctr)) > 1
        np.testing.assert_array_equal(await predictor.score(V, inputs(30), LONG), ctr)
        assert len(await predictor.score(V, inputs(1), LONG)) == 1
        with pytest.raises(VersionGoneError):
            await predictor.score(ModelVersion("ctr", 2), inputs(1), LONG)
        with pytest.raises(PredictError, match="has no signature"):
            await predictor.control.signature(V, "serving_default")
        assert await asyncio.to_thread(calls_of, f"127.0.0.1:{port}") == 3
    finally:
        await predictor.close()
        await server.stop(0)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("rows", "expected 5 scores"),
        ("dtype", "expected float32"),
        ("refused", "RESOURCE_EXHAUSTED"),
        ("slow", "DEADLINE_EXCEEDED"),
    ],
)
async def test_a_fault_can_be_set_and_cleared(fault: Fault, said: str) -> None:
    simulated = SimulatedServer(SPEC, fixed_s=0.0, per_row_s=0.0)
    server, port = simulated.listen(0)
    await server.start()
    predictor = Predictor(PredictorSettings(addresses=(f"127.0.0.1:{port}",)))
    try:
        await predictor.score(V, inputs(5), LONG)
        await asyncio.to_thread(set_fault, f"127.0.0.1:{port}", fault)
        with pytest.raises(PredictError, match=said):
            await predictor.score(V, inputs(5), 0.5 if fault in {"slow", "refused"} else LONG)
        await asyncio.to_thread(set_fault, f"127.0.0.1:{port}", "none")
        assert len(await predictor.score(V, inputs(5), LONG)) == 5
        with pytest.raises(grpc.RpcError, match="unknown fault 'odd'"):
            await asyncio.to_thread(set_fault, f"127.0.0.1:{port}", cast(Fault, "odd"))
    finally:
        await predictor.close()
        await server.stop(0)


async def test_half_of_the_scores_can_be_nan() -> None:
    simulated = SimulatedServer(SPEC, fixed_s=0.0, per_row_s=0.0)
    simulated.fault = "nan"
    reply = await simulated.predict(score_request(V, inputs(5))[0], cast(Any, Context()))
    assert read_scores(reply, OUTPUT, 5).invalid == {"nan": 3}


async def test_another_signature_is_rejected() -> None:
    request = score_request(V, inputs(2))[0]
    request.model_spec.signature_name = "serving_default"
    context: Any = Context()
    with pytest.raises(AbortedError, match="INVALID_ARGUMENT"):
        await slow().predict(request, context)
