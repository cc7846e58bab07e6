"""Requests by ad id through all stages: the table's position, and ads that the table does not contain."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import orjson
import pytest
import structlog

from streamer import slices
from streamer.codec import Codec
from streamer.deadline import Deadline
from streamer.features import Encoder
from streamer.features.served import ServedRows, decode_served, encode_served
from streamer.formats.ctr_pb2 import BidRequest as Message
from streamer.formats.ctr_pb2 import Candidate, Column
from streamer.metrics import Metrics
from streamer.prepared_version import PreparedVersion
from streamer.settings.sections import CodecSettings, ShadowSettings, UnknownAds
from streamer.side_outputs.shadow import Shadow
from streamer.side_outputs.side_output import SideOutput
from streamer.testing.ad_table import FakeAds
from streamer.testing.model_servers import VirtualServers
from streamer.testing.virtual_loop import run_virtual, virtual
from streamer.types import F32, BatchInputs, BidRequest, EncodedRequest, Header, ModelVersion, Origin, Record
from tests.streamer.formats.binary_requests import BINARY
from tests.streamer.rollout.switching import Worker, loaded
from tests.streamer.specs import small_spec

_VERSION = ModelVersion("ctr", 1)


def _prepared(known: int, encoder: Encoder | None = None) -> tuple[PreparedVersion, FakeAds]:
    """A version whose table has the ads a0 to a{known - 1}."""
    encoder = Encoder(small_spec()) if encoder is None else encoder
    spec = encoder.spec
    table = FakeAds(encoder.row_form())
    table.put({f"a{i}": {"ad_id": f"a{i}", "campaign": f"c{i}", "bid": 1 + i} for i in range(known)})
    codec = Codec(CodecSettings(), spec.request, spec.document_keys, spec.containers, by_id=True)
    return PreparedVersion(_VERSION, codec, encoder).with_ads(table), table


class ById:
    """A worker whose version has a table of the ads a0, a1 and a2."""

    def __init__(self, unknown: UnknownAds = "default", *, cache: bool = False) -> None:
        self.worker = Worker(VirtualServers([loaded(1)]), cache=cache)
        self.worker.pipeline.scores.unknown_get_priors = unknown == "prior"
        self.pipeline = replace(self.worker.pipeline, unknown_ads=unknown)

    async def start(self) -> None:
        await self.worker.start()
        serving = self.worker.model.serving_for(b"u1")
        prepared, self.table = _prepared(3, serving.encoder)
        for part in ("codec", "encoder"):
            object.__setattr__(serving, part, getattr(prepared, part))

    async def answer(self, candidates: object, number: int = 0) -> dict[str, Any]:
        now = self.worker.loop.time()
        value = orjson.dumps({"request_id": "r", "user": {"id": "u1"}, "candidates": candidates})
        record = Record(b"u1", value, (), Origin("requests", 0, number), 5, Deadline.after(now, 60_000.0), now)
        await self.pipeline.answer(record)
        answer: dict[str, Any] = self.worker.answers[number][-1]
        return answer

    @property
    def unknown(self) -> float | None:
        return self.worker.metrics.registry.get_sample_value("streamer_unknown_ads_total")


@virtual
async def test_an_answer_has_the_position_of_the_table() -> None:
    rig = ById()
    await rig.start()
    first = await rig.answer({"ad_id": ["a2", "a0"]})
    assert first["ads"] == {"topic": "ads", "positions": [3]}
    assert (first["status"], first["source"]) == ("ok", ["model", "model"])
    rig.table.put({"a0": {"ad_id": "a0", "campaign": "c9"}})
    second = await rig.answer([{"ad_id": "a2"}, {"ad_id": "a0"}], 1)
    assert second["ads"]["positions"] == [4]
    assert second["ctr"][0] == first["ctr"][0]
    assert second["ctr"][1] != first["ctr"][1]
    assert rig.unknown == 0


@virtual
async def test_an_unknown_ad_has_default_values() -> None:
    rig = ById()
    await rig.start()
    answer = await rig.answer({"ad_id": ["a1", "new", "newer"]})
    assert (answer["status"], answer["source"]) == ("ok", ["model"] * 3)
    assert "reason" not in answer
    assert rig.unknown == 2


@pytest.mark.parametrize("cache", [False, True])
def test_an_unknown_ad_has_its_prior_and_is_not_sent_to_the_model(cache: bool) -> None:
    run_virtual(partial(_score_unknown, cache=cache))


async def _score_unknown(cache: bool) -> None:
    rig = ById("prior", cache=cache)
    await rig.start()
    partial = await rig.answer({"ad_id": ["new", "a1", "a2", "newer"]})
    assert (partial["status"], partial["source"]) == ("partial", ["prior", "model", "model", "prior"])
    assert partial["ctr"][0] == pytest.approx(small_spec().prior)
    assert partial["reason"] == "2 of 4 ads are not in the table of topic 'ads'"
    assert partial["batch_rows"] == 2
    fallback = await rig.answer({"ad_id": ["new"]}, 1)
    assert (fallback["status"], fallback["source"], fallback["ads"]["topic"]) == ("fallback", ["prior"], "ads")
    assert fallback["reason"] == "1 of 1 ads are not in the table of topic 'ads'"
    known = await rig.answer({"ad_id": ["a1", "a0"]}, 2)
    assert (known["status"], known["source"]) == ("ok", ["cache" if cache else "model", "model"])
    assert rig.unknown == 3


@virtual
async def test_a_request_with_an_unknown_ad_is_invalid() -> None:
    rig = ById("invalid")
    await rig.start()
    answer = await rig.answer({"ad_id": ["a1", "new", "newer"]})
    assert (answer["status"], answer["reason"]) == (
        "invalid",
        "candidates[1].ad_id: 'new' is not in the table of topic 'ads'",
    )
    assert answer["ads"] == {"topic": "ads", "positions": [3]}
    assert "ctr" not in answer
    assert rig.unknown == 2
    assert (await rig.answer({"ad_id": ["a1"]}, 1))["status"] == "ok"


@virtual
async def test_a_request_that_mixes_forms_is_invalid_by_the_field() -> None:
    rig = ById()
    await rig.start()
    wrong: list[tuple[object, str]] = [
        ({"ad_id": ["a1", "a2"], "bid": 2}, "candidates.bid: expected a list of 2 values, one per ad id"),
        ({"ad_id": "a1"}, "candidates.ad_id: expected a list of ad ids, got 'a1'"),
        ({"bid": [1]}, "candidates.ad_id: expected a list of ad ids, got nothing"),
        (["a1"], "candidates[0]: expected an object"),
        ([{"ad_id": ["a1", "a2"]}], "candidates[0].ad_id: expected a non-empty string, got ['a1', 'a2']"),
    ]
    for number, (candidates, reason) in enumerate(wrong):
        answer = await rig.answer(candidates, number)
        assert (answer["status"], answer["reason"]) == ("invalid", reason)


def _ids(size: int, **more: object) -> BidRequest:
    return BidRequest("r", {"user": {"id": "u1"}}, size, columns={"ad_id": [f"a{i % 40}" for i in range(size)], **more})


@pytest.mark.parametrize("known", [40, 30])
@pytest.mark.parametrize("more", [{}, {"bid": [i % 7 or None for i in range(2000)]}])
def test_slices_give_the_result_of_one_piece(known: int, more: Mapping[str, object]) -> None:
    prepared, _ = _prepared(known)
    request = _ids(2000, **more)
    assert slices.are_needed(prepared.encoder, request)
    (sliced,) = [step for step in slices.encode(prepared.encoder, request) if step is not None]
    whole = prepared.encoder.encode(request)
    for name in ("ad_ids", "candidate_ids", "candidate_floats", "pair_ids", "keys", "ad_keys", "unknown"):
        np.testing.assert_array_equal(getattr(sliced, name), getattr(whole, name), name)
    assert (whole.unknown is None) == (known == 40)


def test_the_slices_of_a_request_have_one_position() -> None:
    prepared, table = _prepared(40)
    whole = prepared.encoder.encode(_ids(2000))
    steps = list[EncodedRequest | None]()
    for step in slices.encode(prepared.encoder, _ids(2000)):
        steps.append(step)
        table.put({f"a{i}": {"campaign": "changed"} for i in range(40)})
    found = steps[-1]
    assert found is not None
    assert found.position == whole.position
    np.testing.assert_array_equal(found.keys, whole.keys)


async def test_scores_of_a_shadow_have_priors_for_unknown_ads() -> None:
    prepared, table = _prepared(1)
    published, done = list[Any](), asyncio.Event()

    async def publish(key: bytes | None, value: bytes, headers: tuple[Header, ...]) -> None:
        published.append(orjson.loads(value))
        done.set()

    async def score(version: ModelVersion, inputs: BatchInputs, timeout_s: float) -> F32:
        return np.full(inputs.rows, 0.5, dtype=np.float32)

    output = SideOutput(ShadowSettings(), Metrics().shadow, structlog.get_logger())
    running = asyncio.create_task(output.run())
    shadow = Shadow(output, lambda _, __: prepared, score, publish, unknown_get_priors=True)  # type: ignore[arg-type]
    value = b'{"request_id": "r", "user": {}, "candidates": {"ad_id": ["a0", "new"]}}'
    shadow.offer(Record(b"u", value, (), Origin("t", 0, 1), 0, Deadline.after(0.0, 30.0), 0.0), _VERSION)
    await done.wait()
    running.cancel()
    (answer,) = published
    assert (answer["status"], answer["source"]) == ("partial", ["model", "prior"])
    assert answer["ctr"] == [0.5, pytest.approx(prepared.prior)]
    assert answer["ads"]["positions"] == list(table.position.offsets)


def test_a_line_of_the_feature_log_has_the_position() -> None:
    prepared, _ = _prepared(2)
    encoded = prepared.encoder.encode(_ids(2))
    line = encode_served("r", prepared.encoder.spec.hash, _VERSION, encoded)
    assert orjson.loads(line)["ads"] == {"topic": "ads", "positions": [2]}
    served = decode_served(line, prepared.encoder.layout)
    assert isinstance(served, ServedRows)
    np.testing.assert_array_equal(served.ids["candidate"], encoded.candidate_ids)


def test_ids_in_protobuf_are_columns_or_candidates() -> None:
    prepared, _ = _prepared(3)
    document = b'{"request_id": "r", "user": {"id": "u1"}}'
    ids = ["a2", "a0"]
    in_columns = Message(document=document, columns=[Column(path="ad_id", texts=ids)])
    rows = [Candidate(texts=[ad_id]).SerializeToString() for ad_id in ids]
    in_rows = Message(document=document, text_paths=["ad_id"], candidates=rows)
    with_gaps = Message(
        document=document,
        columns=[
            Column(path="ad_id", texts=ids),
            Column(path="campaign", texts=["", ""]),
            Column(path="bid", numbers=[float("nan")] * 2),
        ],
    )
    expected = prepared.encoder.encode(BidRequest("r", {"user": {"id": "u1"}}, 2, columns={"ad_id": ids}))
    for message in (in_columns, in_rows, with_gaps):
        request = prepared.codec.decode(message.SerializeToString(), BINARY)
        assert isinstance(request, BidRequest)
        found = prepared.encoder.encode(request)
        assert list(found.ad_ids) == ids
        np.testing.assert_array_equal(found.keys, expected.keys)
        np.testing.assert_array_equal(found.candidate_ids, expected.candidate_ids)
