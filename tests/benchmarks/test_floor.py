"""The floor program encodes as the project's encoder does."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
import orjson
import pytest

from benchmarks.floor_encoders import CompiledFloor, FloorEncoder, PythonFloor, answers
from sandbox.world.bid_requests import CandidateLayout, RequestFactory
from sandbox.world.world import World
from streamer.features import Encoder, FeatureSpec
from streamer.serving.protos import predict_pb2
from streamer.types import BidRequest, EncodedRequest

SPEC = Path(__file__).parents[2] / "configs/features/reference.yaml"
PARTS = ("request_ids", "request_floats", "candidate_ids", "candidate_floats", "pair_ids")


@cache
def small_world() -> World:
    return World(seed=7, users=100, sites=20, ads=200)


def checked(floor: FloorEncoder, values: Sequence[bytes], expected: Sequence[EncodedRequest]) -> None:
    """A call of these requests has the rows of the encoder, and each request its scores."""
    chunk = floor.encode([floor.decode(value) for value in values])
    for name in PARTS:
        whole = np.concatenate([getattr(encoded, name) for encoded in expected])
        assert chunk.message.inputs[name].tensor_content == whole.tobytes(), name
    reply = predict_pb2.PredictResponse()
    scores = np.linspace(0, 1, 80, dtype=np.float32)
    reply.outputs["ctr"].tensor_content = scores.tobytes()
    found = list(map(orjson.loads, answers(chunk, reply, 1.5)))
    assert [answer["ad_id"] for answer in found] == [list(encoded.ad_ids) for encoded in expected]
    np.testing.assert_allclose(np.concatenate([answer["ctr"] for answer in found]), scores)


@pytest.mark.parametrize("kind", [PythonFloor, CompiledFloor])
@pytest.mark.parametrize("layout", get_args(CandidateLayout))
def test_a_call_has_the_rows_of_the_encoder_and_each_request_its_scores(
    layout: CandidateLayout, kind: type[PythonFloor | CompiledFloor]
) -> None:
    spec = FeatureSpec.from_yaml(SPEC)
    factory = RequestFactory(small_world(), candidates=20, seed=4, layout=layout)
    values = [factory.next().value for _ in range(4)]
    floor, encoder = kind(spec), Encoder(spec)
    expected = []
    for value in values:
        document = orjson.loads(value)
        candidates = document["candidates"]
        rows = list(map(orjson.dumps, candidates)) if layout == "rows" else None
        expected.append(encoder.encode(BidRequest("", document, 20, rows, None if rows else candidates)))
    for _ in range(2):  # unknown candidates, then memoised ones
        checked(floor, values, expected)


def test_a_call_of_ad_ids_has_the_rows_of_the_topic() -> None:
    spec, world = FeatureSpec.from_yaml(SPEC), small_world()
    by_rows, by_id = (RequestFactory(world, candidates=20, seed=4, layout=layout) for layout in ("rows", "id"))
    floor, encoder = PythonFloor(spec, {ad["ad_id"]: ad for ad in map(orjson.loads, world.ads.json)}), Encoder(spec)
    documents = [orjson.loads(by_rows.next().value) for _ in range(4)]
    rows = [list(map(orjson.dumps, document["candidates"])) for document in documents]
    expected = [encoder.encode(BidRequest("", *one)) for one in zip(documents, [20] * 4, rows, strict=True)]
    checked(floor, [by_id.next().value for _ in range(4)], expected)
