"""Whatever a server answers, the client returns values or raises the declared errors."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import BadReplyError, PredictError
from streamer.serving import messages
from streamer.serving.predictor import Predictor
from streamer.serving.protos import get_model_metadata_pb2, predict_pb2, tensor_pb2
from streamer.serving.replies import metadata_reply, scores_reply, spec_reply, status_reply
from streamer.settings.sections import PredictorSettings
from streamer.types import Availability, BatchInputs, ModelVersion, SignatureInfo
from tests.streamer.scoring.encoded import encoded
from tests.streamer.specs import small_spec

V = ModelVersion("ctr", 3)
ROWS = 4
SPEC = small_spec().to_json()
REPLIES = [
    scores_reply(np.full(ROWS, 0.5, np.float32)),
    spec_reply(SPEC),
    metadata_reply(SPEC),
    status_reply((1, 3)),
    get_model_metadata_pb2.GetModelMetadataResponse(),
]


class RawServer:
    """Answers every method with random bytes, damaged replies, replies of other methods, or random statuses."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    @asynccontextmanager
    async def client(self, **settings: Any) -> AsyncIterator[Predictor]:
        """A client of this server."""
        methods = {"PredictionService": ("Predict", "GetModelMetadata"), "ModelService": ("GetModelStatus",)}
        server = grpc.aio.server()
        for service, names in methods.items():
            handlers = dict.fromkeys(names, grpc.unary_unary_rpc_method_handler(self.answer))
            name = f"tensorflow.serving.{service}"
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        predictor = Predictor(PredictorSettings(addresses=(address,), **settings))
        try:
            yield predictor
        finally:
            await predictor.close()
            await server.stop(0)

    async def answer(self, request: bytes, context: Any) -> bytes:
        rng = self.random
        kind = rng.randrange(4)
        if kind == 0:
            details = rng.choice(["", "x" * 5000, "a\nb", "\x00é", "message larger than max"])
            await context.abort(rng.choice([code for code in grpc.StatusCode if code.value[0]]), details)
        if kind == 1:
            return rng.randbytes(rng.randrange(200))
        data = bytearray(rng.choice(REPLIES).SerializeToString())
        if kind == 2:
            at = rng.randrange(len(data) + 1)
            data[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
        return bytes(data)


@pytest.mark.parametrize("seed", range(2))
async def test_only_values_and_declared_errors_come_back(seed: int) -> None:
    rows = BatchInputs.whole(encoded(1, ROWS))
    outcomes: dict[str, int] = {}
    async with RawServer(seed).client(circuit_open_ms=0.001, circuit_max_open_ms=0.001) as predictor:
        control = predictor.control
        for _ in range(150):
            for call, kind in (
                (predictor.score(V, rows, 60.0), np.ndarray),
                (control.available("ctr"), Availability),
                (control.labelled("ctr", "stable"), int),
                (control.feature_spec(V), str),
                (control.signature(V, "score"), SignatureInfo),
                (control.warm(V, [rows]), type(None)),
            ):
                (found,) = await asyncio.gather(call, return_exceptions=True)
                assert isinstance(found, kind | PredictError), repr(found)
                assert not isinstance(found, PredictError) or len(str(found)) < 1000
                outcome = found.code if isinstance(found, PredictError) else kind.__name__
                outcomes[outcome] = outcomes.get(outcome, 0) + 1
    assert {"ndarray", "Availability", "str", "NOT_FOUND", "INVALID_REPLY", "MESSAGE_TOO_LARGE"} <= outcomes.keys()


async def test_a_reply_that_cannot_be_decoded_is_a_bad_reply() -> None:
    class Garbage(RawServer):
        async def answer(self, request: bytes, context: Any) -> bytes:
            return b"\xff\xff"

    rows = BatchInputs.whole(encoded(1, ROWS))
    async with Garbage(0).client() as predictor:
        for call in (predictor.control.available("ctr"), predictor.score(V, rows, 60.0)):
            with pytest.raises(BadReplyError, match="cannot be decoded"):
                await call


TENSORS = st.builds(
    tensor_pb2.TensorProto,
    dtype=st.one_of(st.just(1), st.integers(0, 200)),
    tensor_shape=st.builds(
        lambda sizes, unknown: {"dim": [{"size": size} for size in sizes], "unknown_rank": unknown},
        st.lists(st.sampled_from([0, 1, 2, ROWS, -1, -ROWS, 2**62]), max_size=4),
        st.booleans(),
    ),
    tensor_content=st.one_of(st.just(b""), st.binary(max_size=20), st.binary(min_size=4 * ROWS, max_size=4 * ROWS)),
    float_val=st.lists(st.floats(width=32), max_size=5),
    string_val=st.lists(st.binary(max_size=5), max_size=2),
)


@given(st.dictionaries(st.sampled_from(["ctr", "spec", "other"]), TENSORS, max_size=3))
def test_a_well_formed_reply_gives_scores_or_is_bad(outputs: dict[str, Any]) -> None:
    reply = predict_pb2.PredictResponse(outputs=outputs)
    try:
        found = messages.read_scores(reply, messages.OUTPUT, ROWS)
        found.usable()  # a reply without any valid score is bad
    except BadReplyError:
        pass
    else:
        assert (found.ctr.dtype, found.ctr.shape) == (np.dtype(np.float32), (ROWS,))
        valid = found.ctr[~np.isnan(found.ctr)]
        assert len(valid) > 0
        assert ((valid >= 0) & (valid <= 1)).all()
        assert sum(found.invalid.values()) == ROWS - len(valid)
    with suppress(BadReplyError):
        assert isinstance(messages.read_spec(reply, V), str)


@given(st.lists(st.floats(width=32), min_size=ROWS, max_size=ROWS))
def test_each_row_keeps_its_score_or_has_none(ctr: list[float]) -> None:
    values = np.array(ctr, np.float32)
    valid = (values >= 0) & (values <= 1)
    if not valid.any():
        with pytest.raises(BadReplyError, match="no score is in"):
            messages.read_scores(scores_reply(values), messages.OUTPUT, ROWS).usable()
        return
    found = messages.read_scores(scores_reply(values), messages.OUTPUT, ROWS)
    assert np.array_equal(found.usable()[valid], values[valid])
    assert np.isnan(found.ctr[~valid]).all()
    assert sum(found.invalid.values()) == int((~valid).sum())
