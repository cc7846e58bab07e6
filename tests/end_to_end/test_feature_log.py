"""The feature log has the served rows; its failures affect no answer."""

import time
from pathlib import Path

import numpy as np
import orjson
import pytest
import yaml

from sandbox.processes.model_server import ModelServerProcess
from streamer.features import Encoder, FeatureSpec
from streamer.features.served import ServedRows, decode_served
from streamer.side_outputs.feature_log import is_sampled
from streamer.types import BidRequest
from tests.end_to_end.conftest import System, request
from tests.end_to_end.test_scoring import flat_scores
from tests.kafka_fixtures import FreshTopic
from tests.model_training.conftest import SPEC

pytestmark = [pytest.mark.kafka, pytest.mark.tensorflow]


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
def test_logged_rows_are_those_of_the_encoder_and_of_the_model_call(
    system: System, model_server: ModelServerProcess, guarantee: str
) -> None:
    encoder = Encoder(FeatureSpec.from_mapping(SPEC))
    values = {f"r{i}": request(f"r{i}", [f"ad{j}" for j in range(i, i + 5)]) for i in range(20)}
    sampled = {request_id for request_id in values if is_sampled(request_id, 0.5)}
    assert 0 < len(sampled) < len(values)
    with system.scorer(feature_log__share=0.5, delivery__guarantee=guarantee) as scorer:
        system.send(list(values.values()))
        answers = system.answers(len(values))
        logged = system.read(system.feature_log, len(sampled))
        # They are published before they are counted, so the page is polled.
        deadline = time.monotonic() + 60
        while scorer.metric("streamer_feature_log_requests_total", outcome="published") < len(sampled):
            assert time.monotonic() < deadline
        assert not system.read(system.feature_log, len(sampled) + 1, timeout_s=1)[len(sampled) :]
    assert {message.key for message in logged} == {b"u1"}
    by_id: dict[str, ServedRows] = {}
    for message in logged:
        assert message.value is not None
        served = decode_served(message.value, encoder.layout)
        assert isinstance(served, ServedRows)
        by_id[served.request_id] = served
    assert by_id.keys() == sampled
    for request_id, served in by_id.items():
        document = orjson.loads(values[request_id])
        rows = [orjson.dumps(candidate) for candidate in document["candidates"]]
        expected = encoder.flat_rows(encoder.encode(BidRequest(request_id, document, len(rows), rows=rows)))
        flat = [served.flat_row(at) for at in range(len(rows))]
        ids, floats = (np.stack(part) for part in zip(*flat, strict=True))
        np.testing.assert_array_equal(ids, expected[0])
        np.testing.assert_array_equal(floats, expected[1])
        assert served.ad_ids == answers[request_id]["ad_id"]
        scores = flat_scores(model_server.address, (ids, floats))
        np.testing.assert_allclose(answers[request_id]["ctr"], scores, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_requests_without_consent_are_scored_and_not_logged(system: System, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(yaml.safe_dump(SPEC | {"consent": {"denied_by": [{"path": "regs.coppa", "values": [1]}]}}))
    total = 20
    documents = [orjson.loads(request(f"r{i}")) | {"regs": {"coppa": i % 2}} for i in range(total)]
    with system.scorer(feature_log__share=1.0, predictor__spec_files={"ctr": str(spec)}) as scorer:
        system.send(list(map(orjson.dumps, documents)))
        answers = system.answers(total)
        assert {answer["status"] for answer in answers.values()} == {"ok"}
        logged = system.read(system.feature_log, total // 2)
        assert scorer.metric("streamer_features_consent_denied_requests_total") == total // 2
        assert scorer.stop() == 0
    assert not system.read(system.feature_log, total // 2 + 1, timeout_s=1)[total // 2 :]
    ids = {orjson.loads(message.value)["request_id"] for message in logged if message.value}
    assert ids == {f"r{i}" for i in range(0, total, 2)}


def test_a_topic_that_rejects_records_costs_no_answer(system: System, fresh_topic: FreshTopic) -> None:
    narrow = fresh_topic(config={"max.message.bytes": "300"}, prefix="narrow")
    total = 50
    with system.scorer(
        feature_log__share=1.0, sink__feature_log_topic=narrow, feature_log__max_queued_requests=1
    ) as scorer:
        system.send([request(f"r{i}") for i in range(total)])
        answers = system.answers(total)
        assert {answer["status"] for answer in answers.values()} == {"ok"}

        def count(outcome: str) -> float:
            return scorer.metric("streamer_feature_log_requests_total", outcome=outcome)

        deadline = time.monotonic() + 60
        while count("failed") + count("dropped") < total:
            assert time.monotonic() < deadline
        assert count("failed") >= 1
        assert count("published") == 0
        assert scorer.stop() == 0
    assert system.read(narrow, 1, timeout_s=1) == []


def test_a_missing_topic_of_the_log_is_one_line(system: System) -> None:
    scorer = system.scorer(feature_log__share=0.1, sink__feature_log_topic="nowhere")
    scorer.spawn()
    assert scorer.wait(300) == 2
    assert "no topic nowhere; `streamer topics create`" in scorer.log_tail()
