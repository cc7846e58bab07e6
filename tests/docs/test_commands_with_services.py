"""Commands of the pages run as they are written on brokers, a model server and a scorer of this machine.

Stand-ins: free ports take the place of those of the page, and positions of records that the broker gave those of the
examples. The model server is `tensorflow_model_server` on the PATH, else the one in `sandbox/bin`.
"""

import json
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pytest
from confluent_kafka import Producer

from sandbox.host.ports import free_ports
from sandbox.world.bid_requests import RequestFactory
from sandbox.world.world import World
from tests.docs.page_commands import SERVICES, commands_for
from tests.docs.shells import Shells, why_no_answer, why_not_ready

pytestmark = [pytest.mark.kafka, pytest.mark.tensorflow, pytest.mark.slow]

PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Site:
    """A folder with a model, a broker, and the ports that take the place of those of the pages."""

    shells: Shells
    kafka: int
    models: int
    ops: int

    def commands(self, page: str, test: str) -> list[str]:
        """The commands of a page with the ports of this machine."""
        ports = {"9092": self.kafka, "8500": self.models, "8501": free_ports(1)[0]}
        found = "\0".join(commands_for(page, f"{SERVICES}::{test}"))
        for shown, free in ports.items():
            found = re.sub(rf"\b{shown}\b", str(free), found)
        return found.split("\0")

    def start(self, command: str) -> None:
        """Starts a command that does not end."""
        ready: dict[str, Callable[[], str | None]] = {
            "sandbox.broker": lambda: why_no_answer(self.kafka),
            "model_server": lambda: why_no_answer(self.models),
            "streamer run": lambda: why_not_ready(self.ops),
        }
        self.shells.start(command, next(check for words, check in ready.items() if words in command))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The broker and the model of the page of the demo."""
    kafka, models, ops = free_ports(3)
    with ExitStack() as stack:
        found = Site(Shells(tmp_path_factory.mktemp("site"), stack), kafka, models, ops)
        train, broker = found.commands("docs/tutorials/demo.md", "test_demo")[:2]
        found.shells.run(train)
        found.start(broker)
        yield found


@pytest.fixture
def running(site: Site) -> Iterator[Site]:
    """The same, with requests and a feature spec for the commands; the processes that a test starts end with it."""
    folder = site.shells.folder
    requests = RequestFactory(World(seed=7), candidates=20, deadline_ms=60_000.0)
    bodies = [requests.next().value for _ in range(3)]
    (folder / "requests.jsonl").write_bytes(b"\n".join(bodies))
    (folder / "request.json").write_bytes(bodies[1])
    late = json.loads(bodies[2]) | {"request_id": "late", "deadline_ms": 0.001}
    (folder / "late.json").write_text(json.dumps(late), encoding="utf-8")
    shutil.copy(folder / "configs/features/reference.yaml", folder / "spec.yaml")
    variables = {
        "STREAMER_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{site.kafka}",
        "STREAMER_PREDICTOR__ADDRESSES": json.dumps([f"127.0.0.1:{site.models}"]),
        "STREAMER_OPS__PORT": str(site.ops),
    }
    with ExitStack() as stack:
        yield replace(site, shells=Shells(folder, stack, **variables))


def test_demo(running: Site) -> None:
    server, *scorer = running.commands("docs/tutorials/demo.md", "test_demo")[2:]
    (same_server,) = running.commands("docs/stand-in.md", "test_demo")
    assert re.sub(r"--rest_api_port=\d+ ", "", same_server) == server
    running.start(same_server)
    *before, run = scorer
    for command in before:
        assert running.shells.run(command)
    running.start(run)


def start_by_the_page_of_the_servers(site: Site) -> str:
    """Starts the model server as its page says; returns the command `streamer doctor` of that page."""
    server, doctor = site.commands("docs/serving.md", "test_production")
    folder = site.shells.folder
    config = (folder / "configs/serving/models.config").read_text(encoding="utf-8")
    (folder / "models.config").write_text(config.replace("/models/ctr", f"{folder}/build/models/ctr"))
    if shutil.which("tensorflow_model_server") is None:
        server = f"sandbox/bin/{server}"
    site.start(server.replace("/etc/serving/models.config", f"{folder}/models.config").replace("\\\n", " "))
    return doctor


def test_production(running: Site) -> None:
    doctor = start_by_the_page_of_the_servers(running)
    commands = iter(running.commands("docs/tutorials/production.md", "test_production"))
    shells = running.shells
    assert "scored in time" in shells.run(next(commands))
    for command in (next(commands) for _ in range(3)):
        assert shells.run(command), command
    # The scorer runs where step 4 deploys it; `doctor` looks at the system before that.
    assert "0 error" in shells.run(next(commands))
    running.start("streamer run --config configs/streamer.yaml")
    assert "0 error" in shells.run(doctor)
    send, tail, explain, *model = commands
    assert re.search(r"^r-1  ok  ctr/1  20 ads", shells.run(send), re.MULTILINE)
    assert "late  expired" in shown_by(tail, running)
    assert "r-1" in shells.run(explain)
    shown, rollback, unpin = model
    publish_version(2, running)
    wait_until(lambda: serving_version(running) == 2)
    assert shells.run(shown)
    shells.run(rollback)
    wait_until(lambda: serving_version(running) == 1)
    shells.run(unpin)


def test_operations(running: Site) -> None:
    start_by_the_page_of_the_servers(running)
    shells = running.shells
    shells.run("streamer topics create --config configs/streamer.yaml")
    running.start("streamer run --config configs/streamer.yaml")
    request, letter = "", ""
    for command in running.commands("docs/operations.md", "test_operations"):
        if command.startswith("streamer tail --status"):
            assert "late  expired" in shown_by(command, running)
            continue
        if " dlq " in command and not letter:
            letter = dead_letter(running)
        shown = shells.run(command.replace("--partition 3 --offset 1042", request).replace("3:1042", letter))
        assert shown, command
        if position := re.search(r"partition (\d+), offset (\d+)", shown):
            request = f"--partition {position[1]} --offset {position[2]}"


def shown_by(tail: str, site: Site) -> str:
    """The output of `streamer tail` until it has shown the answer to a late request; Ctrl-C ends it."""

    def why_nothing_is_shown() -> str | None:
        site.shells.run("streamer send late.json")
        return None if "late" in site.shells.output_of(tail) else "no answer"

    process = site.shells.start(tail, why_nothing_is_shown)
    process.signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 0
    return process.log_tail()


def publish_version(version: int, site: Site) -> None:
    """Publishes a copy of version 1."""
    base = site.shells.folder / "build/models/ctr"
    shutil.copytree(base / "1", base / ".new")
    (base / ".new").rename(base / str(version))


def serving_version(site: Site) -> int:
    """The version that the scorer serves now."""
    shown = json.loads(site.shells.run("streamer model list --json"))
    return int(shown["workers"][0]["models"][0]["serving"])


def wait_until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def dead_letter(site: Site) -> str:
    """Sends a record without a request id; returns the position of its dead letter, partition and offset."""
    producer = Producer({"bootstrap.servers": f"127.0.0.1:{site.kafka}"})
    producer.produce("bid-requests", b"{}")
    assert producer.flush(30) == 0
    found: list[dict[str, str]] = []

    def is_there() -> bool:
        found[:] = json.loads(site.shells.run("streamer dlq list --json"))["dead_letters"]
        return bool(found)

    wait_until(is_there)
    return found[0]["position"]
