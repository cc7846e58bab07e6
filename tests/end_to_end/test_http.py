"""Requests over HTTP: a worker and `serve-http` give the answer of the topic; the commands of the page work."""

import http.client
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from sandbox.host.ports import free_ports
from sandbox.processes.scorer import ScorerProcess
from tests.end_to_end.conftest import ANSWER_S, System, request

pytestmark = [pytest.mark.kafka, pytest.mark.tensorflow]
PAGE = Path(__file__).parents[2] / "docs/http.md"
START, CURL = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def post(port: int, value: bytes) -> tuple[int, dict[str, Any]]:
    """Status and answer, on a new connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/v1/score", value)
        reply = connection.getresponse()
        return reply.status, orjson.loads(reply.read())
    finally:
        connection.close()


@contextmanager
def started(process: ScorerProcess) -> Iterator[None]:
    """Starts a process without a wait for it; it ends with the block."""
    process.spawn()
    try:
        yield
    finally:
        process.stop()


def without_times(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name not in ("ms", "origin", "batch_rows")}


def test_a_worker_and_serve_http_give_the_answer_of_the_topic(system: System, tmp_path: Path) -> None:
    on_worker, alone = free_ports(2)
    options = START.replace("streamer serve-http", "-m streamer serve-http").replace("8080", str(alone)).split()
    config = tmp_path / "streamer.yaml"
    config.write_text(json.dumps({"predictor": {"addresses": system.settings["predictor.addresses"]}}))
    command = [str(config) if option == "streamer.yaml" else option for option in options]
    settings = {name: system.settings[name] for name in ("predictor.control_timeout_ms", "source.max_budget_ms")}
    without_kafka = ScorerProcess(
        {**settings, "kafka.bootstrap_servers": "127.0.0.1:1"}, tmp_path / "log", command=command
    )
    with started(without_kafka), system.scorer(http__port=on_worker, cache__enabled=False) as worker:
        without_kafka.wait_until_ready(ANSWER_S)
        scored = request("scored", [f"ad{i}" for i in range(300)], deadline_ms=60_000)
        values = {"scored": scored, "empty": request("empty", candidates=[]), "cut": request("cut")[:-9]}
        codes = {"scored": 200, "empty": 400, "cut": 400}
        system.send(list(values.values()))
        answers = system.answers(len(values))
        for port in (on_worker, alone):
            for name, value in values.items():
                code, reply = post(port, value)
                assert code == codes[name]
                assert without_times(reply) == without_times(answers[name])
        assert answers["scored"]["status"] == "ok"
        assert worker.metric("streamer_http_requests_total", code="200") == 1
        assert worker.metric("streamer_source_records_total") == len(values)

        curl = subprocess.run(
            ["bash", "-c", CURL.replace("8080", str(alone))], capture_output=True, timeout=60, check=True
        )
        answer = orjson.loads(curl.stdout)
        assert (answer["request_id"], answer["status"], answer["ad_id"]) == ("r-1", "ok", ["a1", "a2"])
        assert "ready" in without_kafka.get("/readyz")
        assert without_kafka.stop() == 0
        assert worker.stop() == 0
