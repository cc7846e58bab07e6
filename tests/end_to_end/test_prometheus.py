"""A real Prometheus scrapes a running scorer and its model server; an alert reaches people through Alertmanager.

Every query of the dashboard and every rule is evaluated against that scrape.
"""

import http.client
import json
import os
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import yaml

from sandbox.errors import SandboxError
from sandbox.host import loopback
from sandbox.host.parent import parent_bound_command
from sandbox.host.ports import free_ports
from sandbox.processes.child import Child
from sandbox.processes.model_server import ModelServerProcess
from tests.end_to_end.conftest import System, request
from tests.monitoring.programs import command
from tests.monitoring.test_dashboard import SHOWN
from tests.monitoring.test_rules import RULES

CONFIGS = Path(__file__).parents[2] / "configs"
START_S = 120.0
# Series that this scorer does not have, which reads no table of ads and never failed so.
ABSENT = {
    "streamer_table_lag_seconds": "no table of ads",
    "streamer_table_age_seconds": "no table of ads",
    "streamer_table_loaded_share": "no table of ads",
    "streamer_rollout_bad_version": "every version can be prepared",
    "streamer_source_unreadable_partitions": "every partition can be read",
}


def _started(stack: ExitStack, name: str, arguments: Sequence[str], port: int, folder: Path) -> None:
    """Starts a program, and waits until its `/-/ready` returns 200; it ends with the test."""

    def why_not_ready() -> str | None:
        try:
            status, text = loopback.get(port, "/-/ready", 2.0)
        except (OSError, http.client.HTTPException) as error:
            return str(error)
        return None if status == 200 else text

    line = parent_bound_command([*command(name), *arguments])
    child = Child(name, line, folder / f"{name}.log", environment=os.environ, error=SandboxError)
    child.start(why_not_ready, START_S)
    stack.callback(child.stop, 30.0)


@contextmanager
def _receiver() -> Iterator[tuple[int, Queue[Any]]]:
    """A webhook: its port, and the messages that it receives."""
    received: Queue[Any] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port, received
    finally:
        server.shutdown()
        server.server_close()


class _Prometheus:
    """Prometheus and Alertmanager with the configuration of this repository, on ports of this machine.

    They scrape every second, and `StreamerDown` waits 2 s: the addresses and times are all that differ.
    """

    def __init__(self, stack: ExitStack, folder: Path, targets: Mapping[str, int], webhook: int) -> None:
        self.port, alerts = free_ports(2)
        rules = (CONFIGS / "prometheus/alerts.yml").read_text()
        down = rules.index("alert: StreamerDown\n")
        (folder / "alerts.yml").write_text(rules[:down] + rules[down:].replace("for: 1m", "for: 2s", 1))
        config = yaml.safe_load((CONFIGS / "prometheus/prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = ["alerts.yml"]
        config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{alerts}"]
        for job in config["scrape_configs"]:
            port = targets.get(job["job_name"], self.port)
            job["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        told = yaml.safe_load((CONFIGS / "prometheus/alertmanager.yml").read_text())
        told["route"]["group_wait"] = "1s"
        for receiver in told["receivers"]:
            receiver["webhook_configs"] = [{"url": f"http://127.0.0.1:{webhook}/{receiver['name']}"}]
        (folder / "alertmanager.yml").write_text(yaml.safe_dump(told))
        _started(
            stack,
            "alertmanager",
            [
                f"--config.file={folder / 'alertmanager.yml'}",
                f"--storage.path={folder / 'alertmanager'}",
                f"--web.listen-address=127.0.0.1:{alerts}",
                "--cluster.listen-address=",
            ],
            alerts,
            folder,
        )
        _started(
            stack,
            "prometheus",
            [
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            self.port,
            folder,
        )

    def query(self, expression: str) -> list[Any]:
        """The samples of an expression now; fails the test on an error or a warning."""
        status, text = loopback.get(self.port, f"/api/v1/query?query={urllib.parse.quote(expression)}", 10.0)
        found = json.loads(text)
        assert (status, found["status"], found.get("warnings")) == (200, "success", None), f"{expression}: {text}"
        result: list[Any] = found["data"]["result"]
        return result

    def until(self, expression: str, timeout_s: float = START_S) -> None:
        """Waits until an expression has a result."""
        deadline = time.monotonic() + timeout_s
        while not self.query(expression):
            assert time.monotonic() < deadline, f"no result: {expression}"
            time.sleep(0.5)


def _check_dashboard(prometheus: _Prometheus) -> None:
    """Every query has samples, or the description of its panel says when it is empty."""
    unexplained = []
    for panel in SHOWN:
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
            if not prometheus.query(expression) and not re.search(r"\bempty\b", panel["description"], re.IGNORECASE):
                unexplained.append(f"{panel['title']}: {target['expr']}")
    assert unexplained == []


def _check_rules(prometheus: _Prometheus) -> None:
    """Every rule can be evaluated, and every series that it uses exists."""
    for rule in RULES.values():
        prometheus.query(rule["expr"])
    used = {name for rule in RULES.values() for name in re.findall(r"\bstreamer_[a-z_]+", rule["expr"])}
    assert {name for name in used if not prometheus.query(name)} == set(ABSENT)
    groups = json.loads(loopback.get(prometheus.port, "/api/v1/rules", 10.0)[1])["data"]["groups"]
    states = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert states == dict.fromkeys(RULES, "ok")


@pytest.mark.slow
@pytest.mark.kafka
def test_queries_have_data_and_an_alert_reaches_people(
    make_system: Callable[[str], System], model_base: Path, tmp_path: Path
) -> None:
    for name in ("prometheus", "alertmanager"):
        command(name)
    with ExitStack() as stack:
        server = stack.enter_context(
            ModelServerProcess(
                model_base,
                "ctr",
                rest_port=free_ports(1)[0],
                flags={"monitoring_config_file": CONFIGS / "serving/monitoring.config"},
                log_path=tmp_path / "model-server.log",
            )
        )
        assert server.rest_port is not None
        system = make_system(server.address)
        scorer = stack.enter_context(system.scorer(supervisor__workers=1, delivery__guarantee="exactly_once"))
        webhook, received = stack.enter_context(_receiver())
        targets = {"streamer": scorer.port, "tensorflow-serving": server.rest_port}
        prometheus = _Prometheus(stack, tmp_path, targets, webhook)
        prometheus.until('count_over_time(up{job="streamer"}[1m]) > 2')
        for number in range(10):
            system.send([request(f"r{number}", [f"a{number}", "a1"]), b"{nonsense"])
            time.sleep(0.5)
        system.answers(10)
        for job in ("streamer", "tensorflow-serving", "prometheus"):
            prometheus.until(f'up{{job="{job}"}} == 1')
        prometheus.until("sum(increase(streamer_sink_answers_total[1m])) > 8")
        prometheus.until('sum(increase({__name__=":tensorflow:serving:request_count"}[1m])) > 0')
        _check_dashboard(prometheus)
        _check_rules(prometheus)

        scorer.kill()
        found: dict[str, Any] = {}
        while "StreamerDown" not in found:
            message = received.get(timeout=START_S)
            found |= {alert["labels"]["alertname"]: (message["receiver"], alert) for alert in message["alerts"]}
        receiver, alert = found["StreamerDown"]
        assert (receiver, alert["status"], alert["labels"]["severity"]) == ("page", "firing", "page")
        assert alert["annotations"]["summary"] == f"127.0.0.1:{scorer.port} does not answer on its operations port"
        assert alert["annotations"]["runbook"] == "docs/runbooks.md#streamerdown"
