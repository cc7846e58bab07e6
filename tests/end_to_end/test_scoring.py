"""Answers: their scores, versions and times; and no loss at the end."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import orjson
import pytest
from confluent_kafka import Producer

from sandbox.host.loopback import DIRECT
from sandbox.host.ports import free_ports
from sandbox.processes.model_server import ModelServerProcess
from streamer.features import Encoder, FeatureSpec
from streamer.serving.protos import predict_pb2, types_pb2
from streamer.types import F32, I32
from tests.end_to_end.conftest import ANSWER_S, System, request
from tests.end_to_end.test_http import post
from tests.model_training.conftest import SPEC

pytestmark = [pytest.mark.kafka, pytest.mark.tensorflow]


def _flat_scores(address: str, value: bytes) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Scores of the signature `serving_default` for a request, one flat row per candidate."""
    document = orjson.loads(value)
    encoder = Encoder(FeatureSpec.from_mapping(SPEC))
    return flat_scores(address, encoder.encode_log([document], document["candidates"], [len(document["candidates"])]))


def flat_scores(address: str, rows: tuple[I32, F32]) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Scores of the signature `serving_default` for flat rows."""
    message = predict_pb2.PredictRequest()
    message.model_spec.name = "ctr"
    for name, array in zip(("ids", "floats"), rows, strict=True):
        tensor = message.inputs[name]
        tensor.dtype = types_pb2.DT_FLOAT if array.dtype == np.float32 else types_pb2.DT_INT32
        for size in array.shape:
            tensor.tensor_shape.dim.add().size = size
        tensor.tensor_content = array.tobytes()
    with grpc.insecure_channel(address, DIRECT) as channel:
        call = channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            request_serializer=predict_pb2.PredictRequest.SerializeToString,
            response_deserializer=predict_pb2.PredictResponse.FromString,
        )
        reply = call(message, timeout=300)
    return np.array(reply.outputs["ctr"].float_val, dtype=np.float32)


def test_scores_are_those_of_the_model_and_a_repeat_comes_from_the_cache(
    system: System, model_server: ModelServerProcess
) -> None:
    many = request("many", [f"ad{i}" for i in range(700)])
    with system.scorer(batching__max_batch_rows=256) as scorer:
        system.send([many])
        (first,) = (message.json for message in system.read(system.scores, 1))
        system.send([request("again", [f"ad{i}" for i in range(700)])])
        _, second = (message.json for message in system.read(system.scores, 2))
        assert scorer.metric("streamer_cache_hits_total") == 700
        maps = Path(f"/proc/{scorer.pid}/maps").read_text()
    assert first["status"] == "ok"
    assert first["model"] == {"name": "ctr", "version": 1}
    assert first["ad_id"] == [f"ad{i}" for i in range(700)]
    assert set(first["source"]) == {"model"}
    assert first["batch_rows"] == 256, "700 rows leave in batches of at most 256"
    assert first["origin"] == {"topic": system.requests, "partition": 0, "offset": 0}
    np.testing.assert_allclose(first["ctr"], _flat_scores(model_server.address, many), rtol=0, atol=1e-6)
    assert set(second["source"]) == {"cache"}
    assert second["ctr"] == first["ctr"]
    assert "tensorflow" not in maps, "the scorer's process must not load the TensorFlow runtime"


def test_requests_of_every_compression_are_read(system: System) -> None:
    codecs = ("gzip", "lz4", "snappy", "zstd")
    for codec in codecs:
        # Many, because librdkafka sends a batch uncompressed if compression does not make it smaller.
        system.send([request(f"{codec}-{i}") for i in range(20)], compression=codec)
    with system.scorer():
        answers = system.answers(20 * len(codecs))
    assert {answer["status"] for answer in answers.values()} == {"ok"}


def test_an_expired_request_costs_no_inference(system: System) -> None:
    with system.scorer() as scorer:
        system.send([request("late", deadline_ms=0.001)])
        system.send([b"not even JSON"], headers=[("request_id", b"unparsed"), ("deadline_ms", b"0.001")])
        answers = system.answers(2)
        assert scorer.metric("streamer_codec_candidates_total") == 0
    assert {answer["status"] for answer in answers.values()} == {"expired"}
    assert all("ctr" not in answer for answer in answers.values())


def test_sigterm_loses_and_duplicates_no_answer(system: System) -> None:
    total = 400
    values = [request(f"r{i}", [f"ad{j}" for j in range(50)]) for i in range(total)]
    scorer = system.scorer(cache__enabled=False, source__max_in_flight_records=8)
    with scorer:
        system.send(values)
        system.read(system.scores, 20)
        assert scorer.stop() == 0
    with system.scorer(cache__enabled=False):
        answers = system.answers(total)
        assert len(answers) == total
        assert not system.read(system.scores, total + 1, timeout_s=5)[total:], "a request was answered twice"
    assert {answer["status"] for answer in answers.values()} == {"ok"}


def test_without_the_model_server_requests_are_answered_with_the_prior(
    make_system: Callable[[str], System], model_base: Path, tmp_path: Path
) -> None:
    with ModelServerProcess(model_base, "ctr", log_path=tmp_path / "server.log") as server:
        system = make_system(server.address)
        with system.scorer(cache__enabled=False) as scorer:
            system.send([request("before")])
            before = system.answers(1)["before"]
            server.kill()
            system.send([request("without", ["a1", "a2", "new"], deadline_ms=30_000)])
            without = system.answers(2)["without"]
            server.start()
            n, until = 2, time.monotonic() + ANSWER_S
            while True:
                system.send([request(f"after {n}", deadline_ms=20_000)])
                n += 1
                if system.answers(n)[f"after {n - 1}"]["status"] == "ok":
                    break
                # By time, not by count: while the circuit is open, answers are immediate.
                assert time.monotonic() < until, "the scorer does not come back to the model server"
            assert scorer.stop() == 0
    assert without["status"] == "fallback"
    assert set(without["source"]) == {"prior"}
    # The first two ads have their own priors, from their last scores; the third has the prior of the spec.
    assert without["ctr"] == pytest.approx([*before["ctr"][:2], 0.01])
    assert without["reason"]


def test_a_newer_version_serves_without_a_restart(
    make_system: Callable[[str], System], model_base: Path, tmp_path: Path
) -> None:
    base = tmp_path / "ctr"
    shutil.copytree(model_base, base)
    flags = {"file_system_poll_wait_seconds": 1}
    with ModelServerProcess(base, "ctr", log_path=tmp_path / "server.log", flags=flags) as server:
        system = make_system(server.address)
        with system.scorer(cache__enabled=False, predictor__poll_interval_ms=200, rollout__ramp_s=0.5):
            system.send([request("r0")])
            assert system.answers(1)["r0"]["model"]["version"] == 1
            shutil.copytree(model_base / "1", base / "arriving")
            (base / "arriving").rename(base / "2")
            n = 1
            while True:
                system.send([request(f"r{n}")])
                n += 1
                answer = system.answers(n)[f"r{n - 1}"]
                assert answer["status"] == "ok"
                if answer["model"]["version"] == 2:
                    break
                assert n < 600, "version 2 never served"


def test_two_models_and_a_shadow_version(
    make_system: Callable[[str], System], model_base: Path, tmp_path: Path
) -> None:
    config = tmp_path / "models.config"
    entries = ""
    for name, versions in {"ctr": (1, 2), "other": (7,)}.items():
        for version in versions:
            shutil.copytree(model_base / "1", tmp_path / name / str(version))
        entries += (
            f'config {{ name: "{name}" base_path: "{tmp_path / name}" model_platform: "tensorflow" '
            f"model_version_policy {{ all {{}} }} }} "
        )
    config.write_text(f"model_config_list {{ {entries} }}", encoding="utf-8")
    with ModelServerProcess(config=config, log_path=tmp_path / "server.log") as server:
        system = make_system(server.address)
        with system.scorer(cache__enabled=False, predictor__models=["ctr", "other"]) as scorer:
            system.send([request("default"), request("named", model="other"), request("unknown", model="nobody")])
            answers = system.answers(3)
            command = ["-m", "streamer", "model", "shadow", "1", "1.0", "--ops", f"127.0.0.1:{scorer.port}"]
            subprocess.run([sys.executable, *command], check=True, timeout=300)
            system.send([request("shadowed")])
            shadowed = system.answers(4)["shadowed"]
            (shadow,) = (message.json for message in system.read(system.shadow_scores, 1))
    assert answers["default"]["model"] == {"name": "ctr", "version": 2}
    assert answers["named"]["model"] == {"name": "other", "version": 7}
    assert answers["unknown"]["status"] == "invalid"
    assert answers["unknown"]["reason"] == "model: 'nobody' is not served here; 'ctr', 'other'"
    assert shadowed["model"] == {"name": "ctr", "version": 2}
    assert shadow["request_id"] == "shadowed"
    assert shadow["model"] == {"name": "ctr", "version": 1}
    assert shadow["ctr"] == pytest.approx(shadowed["ctr"]), "version 1 is the same model"


@pytest.mark.slow
def test_two_workers_share_the_work_behind_one_port(system: System) -> None:
    total = 60
    (port,) = free_ports(1)
    with system.scorer(supervisor__workers=2, http__port=port) as scorer:
        assert [post(port, request("over HTTP"))[0] for _ in range(20)] == [200] * 20, "they share this port, too"
        system.send([request(f"r{i}") for i in range(total)])
        answers = system.answers(total)
        assert {answer["status"] for answer in answers.values()} == {"ok"}
        received = [scorer.metric("streamer_source_records_total", worker=str(n)) for n in range(2)]
        assert sorted(received) == [0, total], "the topic has one partition: it belongs to one of them"
        assert scorer.stop() == 0
    assert not system.read(system.scores, total + 1, timeout_s=5)[total:], "a request was answered twice"


def test_a_missing_topic_is_one_line(system: System) -> None:
    scorer = system.scorer(source__topic="there-is-no-such-topic")
    scorer.spawn()
    assert scorer.wait(300) == 2
    last = scorer.log_tail().strip().splitlines()[-1]
    assert "there-is-no-such-topic" in last
    assert "streamer topics create" in last


def test_check_config_topics_create_and_explain(system: System, tmp_path: Path) -> None:
    config = tmp_path / "streamer.yaml"
    topics = {"source": {"topic": "made-in"}, "sink": {"topic": "made-out", "dead_letter_topic": "made-dead"}}
    server = json.loads(json.dumps(system.settings["predictor.addresses"]))
    config.write_text(
        json.dumps({"kafka": {"bootstrap_servers": system.bootstrap}, "predictor": {"addresses": server}, **topics})
    )

    def streamer(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "streamer", *arguments, "--config", str(config)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    rejected = streamer("check-config", "--live")
    assert rejected.returncode == 2
    assert "made-in" in rejected.stderr
    assert streamer("topics", "create").stdout.count(": created") == 4
    assert streamer("topics", "create").stdout.count(": already exists") == 4
    accepted = streamer("check-config", "--live")
    assert accepted.returncode == 0, accepted.stderr
    assert "spec small" in accepted.stdout

    one = tmp_path / "request.json"
    one.write_bytes(request("explained"))
    explained = streamer("explain", str(one))
    assert explained.returncode == 0, explained.stderr
    for part in ("request explained: 3 candidates", "hour_x_ad", "crossed with candidate 0", "a3", "predict"):
        assert part in explained.stdout
    producer = Producer({"bootstrap.servers": system.bootstrap})
    producer.produce(
        "made-in", orjson.dumps({"candidates": []}), partition=1, headers=[("request_id", b"from headers")]
    )
    assert producer.flush(30) == 0
    rejected = streamer("explain", "--partition", "1", "--offset", "0", "--json")
    assert rejected.returncode == 2
    assert "this record would be answered `invalid`: candidates: empty" in rejected.stderr
    place = {"topic": "made-in", "partition": 1, "offset": 0}
    outcome = {"outcome": "invalid", "request_id": "from headers", "reason": "candidates: empty", "record": place}
    assert orjson.loads(rejected.stdout) == outcome
