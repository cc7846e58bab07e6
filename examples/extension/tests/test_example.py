"""The three extensions, as the scorer loads them."""

from pathlib import Path

import msgspec
import pytest

from streamer.codec import Codec
from streamer.errors import PredictError
from streamer.features import Encoder, FeatureSpec
from streamer.metrics import Metrics
from streamer.serving.channel import Connector
from streamer.serving.predictor import Predictor
from streamer.settings.sections import CodecSettings, PredictorSettings
from streamer.testing.channel_suite import check_channel
from streamer.testing.virtual_loop import run_virtual, virtual
from streamer.types import BadRecord, BatchInputs, BidRequest, ModelVersion

SPEC_FILE = Path(__file__).parent.parent / "spec.yaml"
SPEC = FeatureSpec.from_yaml(SPEC_FILE)
CODEC = Codec(CodecSettings(formats=("msgpack",)), SPEC.request, SPEC.document_keys, SPEC.containers)
HEADERS = [("content-type", b"application/msgpack")]
SETTINGS = PredictorSettings(protocol="prior", addresses=(str(SPEC_FILE),))
V = ModelVersion("ctr", 1)


def decoded(url: object = "https://www.shop.example/shoes?size=42") -> BidRequest:
    document = {"request_id": "r", "context": {"url": url}, "candidates": [{"ad_id": "a", "brand": "b"}]}
    request = CODEC.decode(msgspec.msgpack.encode(document), HEADERS)
    assert isinstance(request, BidRequest), request
    return request


def site(url: object) -> int:
    return int(Encoder(SPEC).encode(decoded(url)).request_ids[0, 0])


def test_urls_of_a_host_are_one_value() -> None:
    assert site("https://www.shop.example/shoes?size=42") == site("http://SHOP.example:8080") == site("//shop.example")
    assert site("https://news.example") != site("https://shop.example")


@pytest.mark.parametrize("url", [None, "", "shoes", "http://[", 7, ["https://shop.example"]])
def test_other_values_count_as_missing(url: object) -> None:
    assert site(url) == site(None)


def test_what_is_no_message_pack_is_rejected_with_its_reason() -> None:
    bad = CODEC.decode(b"\xc1", HEADERS)
    assert isinstance(bad, BadRecord)
    assert bad.reason.startswith("record: application/msgpack: MessagePack data is malformed")


@virtual
async def test_the_channel_behaves_as_those_of_the_scorer() -> None:
    channel = Connector(SETTINGS).channel(str(SPEC_FILE))
    scores = await check_channel(channel, V, BatchInputs.whole(Encoder(SPEC).encode(decoded())))
    assert scores.tolist() == pytest.approx([SPEC.prior])


def test_the_predictor_scores_with_it() -> None:
    async def score() -> list[float]:
        predictor = Predictor(SETTINGS, Metrics())
        inputs = BatchInputs.whole(Encoder(SPEC).encode(decoded()))
        scores = await predictor.score(V, inputs, 1.0)
        with pytest.raises(PredictError):
            await predictor.score(ModelVersion("ctr", 2), inputs, 1.0)
        await predictor.close()
        return list(map(float, scores))

    assert run_virtual(score) == pytest.approx([SPEC.prior])
