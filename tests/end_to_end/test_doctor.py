"""`streamer doctor` names bad settings of running servers, topics and groups."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer

from sandbox.processes.model_server import ModelServerProcess
from streamer.kafka.facts import topic_facts, with_clocks
from streamer.settings import Settings
from tests.end_to_end.conftest import System
from tests.streamer.serving.model_servers import Server
from tests.streamer.specs import small_spec

pytestmark = pytest.mark.kafka


async def doctor(system: System, *words: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Runs the command on the system; `settings` with `__` for the dot."""
    scorer = system.scorer(**settings)
    command = [sys.executable, "-m", "streamer", "doctor", *words]
    return await asyncio.to_thread(
        subprocess.run, command, env=scorer.environment, capture_output=True, text=True, timeout=300, check=False
    )


def send(system: System, ahead_s: float) -> None:
    """Produces one request whose timestamp is ahead of now."""
    producer = Producer({"bootstrap.servers": system.bootstrap})
    producer.produce(system.requests, b"{}", timestamp=round((time.time() + ahead_s) * 1e3))
    assert producer.flush(30) == 0


async def test_bad_settings_are_named_with_their_remedies(make_system: Callable[[str], System]) -> None:
    async with Server(versions=(1, 4), spec=small_spec().to_json(), labels={"canary": 4}).running() as server:
        system = make_system(server.address)
        send(system, 3600.0)
        found = await doctor(
            system,
            *("--json", "--workers", "2", "--server-flags", "tensorflow_model_server --grpc_max_threads=4"),
            sink__dead_letter_topic="there-is-none",
            predictor__labels={"ctr": "stable"},
        )
    assert found.returncode == 1, found.stderr
    findings = json.loads(found.stdout)
    assert all(set(finding) == {"severity", "subject", "reason", "remedy"} for finding in findings)
    reasons = "\n".join(f"{f['severity']}: {f['subject']}: {f['reason']}" for f in findings)
    for expected in (
        f"error: topic {system.requests}: 1 partitions for 2 workers",
        "error: topic there-is-none: it does not exist",
        "error: clocks: the newest request's timestamp is 3",
        "error: model ctr: label stable leads nowhere: INVALID_ARGUMENT: label 'stable' of 'ctr'",
        "error: server flags: --grpc_max_threads=4 for 6 concurrent calls",
        "warning: server flags: --num_load_threads=0",
    ):
        assert expected in reasons, reasons


@pytest.mark.slow
@pytest.mark.tensorflow
async def test_a_good_system_has_no_finding(system: System, model_server: ModelServerProcess) -> None:
    flags = "--grpc_max_threads=64 --num_load_threads=1 --tensorflow_intra_op_parallelism=1"
    found = await doctor(system, "--probe", "--server-flags", flags, source__deadline_from="arrival")
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.splitlines()[-1].startswith("0 error, 0 warning, ")
    assert "error: " not in found.stdout


@pytest.mark.slow
@pytest.mark.tensorflow
async def test_a_server_that_batches_and_has_few_threads(
    make_system: Callable[[str], System], model_base: Path, tmp_path: Path
) -> None:
    # With its warm-up file the model would not even load.
    flags = {"enable_batching": True, "enable_model_warmup": False, "grpc_max_threads": 4}
    with ModelServerProcess(model_base, "ctr", flags=flags, log_path=tmp_path / "log") as server:
        found = await doctor(make_system(server.address), "--json", "--probe", "--workers", "8")
    assert found.returncode == 1, found.stderr
    findings = {(f["severity"], f["subject"]): f for f in json.loads(found.stdout)}
    assert "--enable_batching" in findings["error", f"model ctr at {server.address}"]["remedy"]
    assert findings["error", f"server {server.address}"]["remedy"] == "set --grpc_max_threads=48 or more"


@pytest.mark.slow
async def test_the_age_of_requests_that_arrive_meanwhile(make_system: Callable[[str], System]) -> None:
    system = make_system("127.0.0.1:1")
    settings = Settings.model_validate(
        {"kafka": {"bootstrap_servers": system.bootstrap}, "source": {"topic": system.requests}}
    )
    send(system, -7200.0)
    facts = await topic_facts(settings, [system.requests])
    watched = asyncio.create_task(with_clocks(settings, facts, watch_s=10.0))
    while not watched.done():
        await asyncio.to_thread(send, system, -3600.0)
        await asyncio.sleep(0.1)
    age_ms = (await watched).age_ms
    assert age_ms is not None
    assert 3_600_000 <= age_ms < 3_700_000, "the older request was there before"
