"""A channel of another package keeps the promises of the scorer's own: each fault of it is a failed call."""

from pathlib import Path

import pytest

from streamer.errors import BadReplyError, ConfigError, PredictError, VersionGoneError
from streamer.metrics import Metrics
from streamer.serving.channel import Connector
from streamer.serving.predictor import Predictor
from streamer.serving.protos import get_model_status_pb2
from streamer.serving.transport import Rpc
from streamer.settings.loading import load_settings
from streamer.settings.sections import PredictorSettings
from streamer.testing.virtual_loop import run_virtual
from streamer.types import BatchInputs, ModelVersion
from tests.streamer.extension_package import installed
from tests.streamer.scoring.encoded import encoded

CODE = """
import asyncio
from streamer.errors import VersionGoneError
from streamer.serving.protos import get_model_status_pb2, predict_pb2

class Channel:
    def __init__(self, address, options):
        if address == "wrong":
            raise ValueError("expected an address")
        self.address, self.options, self.closed = address, options, False
    async def call(self, rpc, request, seconds, headers=()):
        if self.address == "slow":
            await asyncio.sleep(seconds + 1)
        if self.address == "gone":
            raise VersionGoneError("NOT_FOUND", "no such version")
        if self.address == "broken":
            return {}["a key"]
        if self.address == "other":
            return "a text"
        if rpc == "Predict":
            reply = predict_pb2.PredictResponse()
            rows = request.inputs["candidate_ids"].tensor_shape.dim[0].size
            tensor = reply.outputs["ctr"]
            tensor.dtype = 1
            tensor.tensor_shape.dim.add(size=rows)
            tensor.float_val.extend([0.25] * rows)
            return reply
        return get_model_status_pb2.GetModelStatusResponse()
    async def close(self, grace_s=None):
        self.closed = True
class NoClose:
    def __init__(self, address, options): self.call = None
"""
ENTRIES = {"ctr_streamer.predictors": {"near": "Channel", "no-close": "NoClose"}}
STATUS = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": "ctr"})
RPC: Rpc = "GetModelStatus"


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("slow", PredictError, "DEADLINE_EXCEEDED: no reply within 50 ms"),
        ("gone", VersionGoneError, "NOT_FOUND: no such version"),
        ("broken", PredictError, "UNKNOWN: KeyError('a key')"),
        ("other", BadReplyError, "INVALID_REPLY: the reply to GetModelStatus is of type str"),
    ],
)
def test_each_fault_is_one_declared_error(
    tmp_path: Path, address: str, error: type[PredictError], message: str
) -> None:
    async def call() -> None:
        channel = Connector(PredictorSettings(protocol="near")).channel(address)
        with pytest.raises(error) as caught:
            await channel.call(RPC, STATUS, 0.05)
        assert type(caught.value) is error
        assert str(caught.value) == message
        await channel.close()

    with installed(tmp_path, CODE, ENTRIES):
        run_virtual(call)


def test_batches_are_scored_by_it(tmp_path: Path) -> None:
    async def score() -> list[float]:
        predictor = Predictor(PredictorSettings(protocol="near", addresses=("https://near.example/v1",)), Metrics())
        scores = await predictor.score(ModelVersion("ctr", 3), BatchInputs.whole(encoded(1, 4)), 60.0)
        await predictor.close()
        return list(map(float, scores))

    with installed(tmp_path, CODE, ENTRIES):
        assert run_virtual(score) == [0.25] * 4


def test_what_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("predictor: {protocol: far}", encoding="utf-8")
    with installed(tmp_path, CODE, ENTRIES):
        with pytest.raises(
            ConfigError, match=r"predictor.protocol: .*'far' is not installed; installed: near, no-close"
        ):
            load_settings(file)
        with pytest.raises(ConfigError, match=r"^predictor.protocol 'near': wrong: ValueError: expected an address$"):
            Connector(PredictorSettings(protocol="near")).channel("wrong")
        with pytest.raises(ConfigError, match=r"^predictor.protocol 'no-close': a: its channel NoClose has no close$"):
            Connector(PredictorSettings(protocol="no-close")).channel("a")
        file.write_text("predictor: {protocol: near, addresses: ['https://near.example/v1']}", encoding="utf-8")
        assert load_settings(file).predictor.addresses == ("https://near.example/v1",)
