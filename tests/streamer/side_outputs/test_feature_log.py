"""The feature log's bound, its sample, and its line."""

import asyncio
import weakref
from typing import Any

import numpy as np
import orjson
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streamer.codec import Codec
from streamer.deadline import Deadline
from streamer.errors import MessageTooLargeError
from streamer.features import Encoder, FeatureSpec
from streamer.features.served import ServedRows, decode_served, encode_served
from streamer.metrics import Metrics
from streamer.prepared_version import PreparedVersion
from streamer.settings.sections import CodecSettings, FeatureLogSettings
from streamer.side_outputs.feature_log import FeatureLog, is_sampled
from streamer.side_outputs.shadow import Shadow
from streamer.side_outputs.side_output import SideOutput
from streamer.types import BadRecord, BidRequest, EncodedRequest, ModelVersion, Origin, Record
from tests.model_training.conftest import SPEC

VERSION = ModelVersion("ctr", 3)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(FeatureSpec.from_mapping(SPEC))


@pytest.fixture
def encoded(encoder: Encoder) -> EncodedRequest:
    rows = [orjson.dumps({"ad_id": f"ad{i}", "bid": i / 4, "size": 2}) for i in range(3)]
    return encoder.encode(BidRequest("r", {"user": {"id": "u", "tags": ["a"]}, "context": {"hour": 5}}, 3, rows=rows))


def test_a_line_gives_back_the_flat_rows(encoder: Encoder, encoded: EncodedRequest) -> None:
    served = decode_served(encode_served("r", encoder.spec.hash, VERSION, encoded), encoder.layout)
    assert isinstance(served, ServedRows)
    assert (served.request_id, served.ad_ids) == ("r", ["ad0", "ad1", "ad2"])
    ids, floats = encoder.flat_rows(encoded)
    for at in range(3):
        found = served.flat_row(at)
        np.testing.assert_array_equal(found[0], ids[at])
        np.testing.assert_array_equal(found[1], floats[at])
        assert [part.dtype.name for part in found] == ["int32", "float32"]


def test_lines_of_another_spec_and_spoilt_ones_are_refused(encoder: Encoder, encoded: EncodedRequest) -> None:
    other = decode_served(encode_served("r", "0" * 16, VERSION, encoded), encoder.layout)
    assert other == BadRecord("r", "logged by another feature spec")
    line = encode_served("r", encoder.spec.hash, VERSION, encoded)
    content = orjson.loads(line)
    spoilt = [line[:-9], b"[]", orjson.dumps(content | {"ad_id": ["ad0"]}), orjson.dumps(content | {"pair_ids": "?"})]
    for bad in spoilt:
        assert decode_served(bad, encoder.layout) == BadRecord(None, "line of the feature log that cannot be read")


@given(st.lists(st.text(min_size=1), max_size=50), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_sample_holds_the_smaller_one(request_ids: list[str], one: float, other: float) -> None:
    less, more = sorted((one, other))
    for request_id in request_ids:
        assert is_sampled(request_id, less) <= is_sampled(request_id, more)
        assert not is_sampled(request_id, 0.0)
        assert is_sampled(request_id, 1.0)


def test_a_sample_has_its_share() -> None:
    assert sum(is_sampled(f"r{i}", 0.1) for i in range(10_000)) == pytest.approx(1000, abs=200)


async def test_what_waits_is_bounded_and_a_failure_is_counted_and_gone_on_from(
    encoder: Encoder, encoded: EncodedRequest
) -> None:
    spec, metrics = encoder.spec, Metrics()
    codec = Codec(CodecSettings(), spec.request, spec.document_keys, spec.containers)
    serving = PreparedVersion(VERSION, codec, encoder)
    begun, released, done = asyncio.Event(), asyncio.Event(), asyncio.Event()
    published: list[bytes | None] = []

    async def publish(key: bytes | None, _: bytes) -> None:
        begun.set()
        await released.wait()
        if key == b"large":
            raise MessageTooLargeError(9, "feature-log")
        published.append(key)
        if key == b"last":
            done.set()

    settings = FeatureLogSettings(share=1.0, max_queued_requests=2, timeout_ms=60_000)
    output = SideOutput(settings, metrics.feature_log, structlog.get_logger())
    log = FeatureLog(output, publish, settings.share)
    running = asyncio.create_task(output.run())
    log.offer(b"first", "r0", serving, encoded)
    await begun.wait()
    for key in (b"large", b"last", b"beyond"):
        log.offer(key, "r1", serving, encoded)
    released.set()
    await done.wait()
    running.cancel()
    assert published == [b"first", b"last"]
    counts = [_count(metrics, outcome) for outcome in ("published", "failed", "dropped")]
    assert counts == [2, 1, 1]


async def test_what_waits_counts_with_all_that_it_keeps(encoder: Encoder, encoded: EncodedRequest) -> None:
    """Of a foreign model that is the exact numbers, too; of a record for a shadow version its headers."""

    async def nothing(*_: object) -> Any: ...

    spec, metrics = encoder.spec, Metrics()
    codec = Codec(CodecSettings(), spec.request, spec.document_keys, spec.containers)
    serving = PreparedVersion(VERSION, codec, encoder)
    output = SideOutput(FeatureLogSettings(), metrics.feature_log, structlog.get_logger())
    foreign = replace(encoded, candidate_numbers=np.zeros((3, 400_000)))
    log = FeatureLog(output, nothing, 1.0)
    log.offer(b"u", "r1", serving, foreign)
    log.offer(b"u", "r2", serving, foreign)
    assert _count(metrics, "dropped") == 1, "2 x 9.6 MB are more than 16 MiB"
    headers = (("", b""),) * 50_000
    record = Record(b"u", b"{}", headers, Origin("t", 0, 1), 0, Deadline.after(0.0, 30.0), 0.0)
    shadow = Shadow(output, lambda _, __: serving, nothing, nothing)
    shadow.offer(record, VERSION)
    assert _count(metrics, "dropped") == 2


async def test_what_waits_does_not_keep_the_rows_of_a_batch(encoder: Encoder, encoded: EncodedRequest) -> None:
    async def nothing(*_: object) -> Any: ...

    spec, metrics = encoder.spec, Metrics()
    codec = Codec(CodecSettings(), spec.request, spec.document_keys, spec.containers)
    serving = PreparedVersion(VERSION, codec, encoder)
    log = FeatureLog(SideOutput(FeatureLogSettings(), metrics.feature_log, structlog.get_logger()), nothing, 1.0)
    batch = np.concatenate([encoded.candidate_ids, encoded.candidate_ids])
    kept = weakref.ref(batch)
    scored = replace(encoded, candidate_ids=batch[: encoded.size])
    log.offer(b"u", "r1", serving, scored)
    del batch, scored
    assert kept() is None


def _count(metrics: Metrics, outcome: str) -> float | None:
    return metrics.registry.get_sample_value("streamer_feature_log_requests_total", {"outcome": outcome})
