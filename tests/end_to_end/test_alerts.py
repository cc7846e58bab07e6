"""Prometheus runs the alert rules over series recorded from a worker that is idle, degraded, and well again."""

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from sandbox.broker.kafka import KafkaBroker
from sandbox.processes.model_server import ModelServerProcess
from sandbox.processes.scorer import ScorerProcess
from tests.end_to_end.conftest import System, request
from tests.model_training.conftest import SPEC
from tests.monitoring.programs import command

RULES = Path(__file__).parents[2] / "configs/prometheus/alerts.yml"
# A scrape a second is told to Prometheus as one every 15 s: the rules wait up to 10 minutes, this test does not.
STEP_S = 15
IDLE, DEGRADED, RECOVERED = 50, 45, 45
# Latencies are those of the machine, which may be busy with other programs.
FIRING = 'ALERTS{alertstate="firing",alertname!~"StreamerSlow|StreamerLoopBlocked"}'


@dataclass(slots=True)
class Recording:
    """The samples that the rules use, one value for each scrape; None where a series does not exist."""

    names: frozenset[str]
    scrapes: int = 0
    series: dict[str, list[float | None]] = field(default_factory=dict)

    def add(self, text: str) -> None:
        """Adds one scrape of /metrics."""
        found = {'up{instance="worker:9100",job="streamer"}': 1.0}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name in self.names:
                    labels = {**sample.labels, "instance": "worker:9100", "job": "streamer"}
                    written = ",".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
                    found[f"{sample.name}{{{written}}}"] = sample.value
        for name in self.series.keys() | found.keys():
            values = self.series.setdefault(name, [None] * self.scrapes)
            values.append(found.get(name))
        self.scrapes += 1

    def input_series(self) -> list[dict[str, str]]:
        """The series in the form of `promtool test rules`."""
        return [
            {"series": name, "values": " ".join("_" if value is None else repr(value) for value in values)}
            for name, values in self.series.items()
        ]


def send(producer: Producer, system: System, name: str, *, requests: int = 1) -> None:
    """Produces requests in a transaction, after which the log holds a control record."""
    producer.begin_transaction()
    for number in range(requests):
        producer.produce(system.requests, request(f"{name}.{number}", ads=[name]), key=b"u1")
    producer.commit_transaction(60)


def record(
    scorer: ScorerProcess, recording: Recording, scrapes: int, each: Callable[[int], None] = lambda _: None
) -> None:
    """Scrapes once a second."""
    started = time.monotonic()
    for number in range(scrapes):
        each(number)
        time.sleep(max(0.0, started + number - time.monotonic()))
        recording.add(scorer.get("/metrics"))


def readiness(scorer: ScorerProcess) -> tuple[int, str]:
    """Status and first line of /readyz."""
    reason = scorer.why_not_ready()
    return (200, "ready") if reason is None else (503, reason)


def alerts_at(scrapes: int, expected: set[str], *, within: int = 0) -> dict[str, Any]:
    """Exactly these alerts are firing at a scrape, or have been firing within so many scrapes before it."""
    firing = f"last_over_time({FIRING}[{within * STEP_S}s])" if within else FIRING
    return {
        "expr": f"group by (alertname) ({firing})",
        "eval_time": f"{(scrapes - 1) * STEP_S}s",
        "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(expected)],
    }


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ModelServerProcess]:
    """A simulated server that the test may stop."""
    spec = tmp_path / "spec.yaml"
    spec.write_text(yaml.safe_dump(SPEC), encoding="utf-8")
    command = ("-m", "sandbox.model_server.simulated", "--spec", str(spec), "--workers", "4")
    with ModelServerProcess(command=command, log_path=tmp_path / "model-server.log") as server:
        yield server


@pytest.mark.slow
@pytest.mark.kafka
def test_alerts_fire_on_a_degraded_worker_and_not_on_an_idle_one(
    make_system: Callable[[str], System], kafka: KafkaBroker, own_server: ModelServerProcess, tmp_path: Path
) -> None:
    names = frozenset(re.findall(r"\b(?:streamer|process)_[a-z_]+", RULES.read_text()))
    system, recording = make_system(own_server.address), Recording(names)
    producer = Producer({"bootstrap.servers": system.bootstrap, "transactional.id": f"test-{system.requests}"})
    producer.init_transactions(60)
    expectations = []
    changes = {"source__budget_ms": 500, "source__max_budget_ms": 500, "kafka__request_timeout_ms": 10_000}
    with system.scorer(**changes, predictor__control_timeout_ms=2_000, service__drain_ms=5_000) as scorer:
        for number in range(20):
            send(producer, system, f"first{number}")
        system.answers(20)
        record(scorer, recording, IDLE)
        assert readiness(scorer)[0] == 200
        expectations.append(alerts_at(recording.scrapes, set(), within=IDLE))

        own_server.kill()
        record(scorer, recording, DEGRADED, lambda number: send(producer, system, f"lost{number}", requests=3))
        status, reason = readiness(scorer)
        assert (status, "no scores of ctr for" in reason) == (503, True), reason
        expectations.append(
            alerts_at(recording.scrapes, {"StreamerNotReady", "StreamerNotScored", "StreamerCircuitOpen"})
        )

        own_server.start()
        record(scorer, recording, RECOVERED, lambda number: send(producer, system, f"again{number}"))
        assert readiness(scorer)[0] == 200
        expectations.append(alerts_at(recording.scrapes, set()))

        kafka.pause()
        try:
            record(scorer, recording, DEGRADED)
            status, reason = readiness(scorer)
            assert (status, "no broker has answered a fetch for" in reason) == (503, True), reason
            assert scorer.get("/healthz") == "RUNNING\n", "a restart would not help"
        finally:
            kafka.resume()
        # No leader of any partition answers.
        expectations.append(alerts_at(recording.scrapes, {"StreamerNotReady", "StreamerPartitionUnreadable"}))
        scorer.wait_until_ready(60)
    test = {"interval": f"{STEP_S}s", "input_series": recording.input_series(), "promql_expr_test": expectations}
    file = tmp_path / "test.yml"
    whole = {"rule_files": [str(RULES)], "evaluation_interval": f"{STEP_S}s", "tests": [test]}
    file.write_text(yaml.safe_dump(whole))
    result = subprocess.run(
        [*command("promtool"), "test", "rules", str(file)], capture_output=True, text=True, check=False, timeout=600
    )
    assert result.returncode == 0, result.stdout + result.stderr
