"""Faults of the machine around the scorer: its log, memory and clock, addresses and certificates."""

import os
import select
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from sandbox.broker.kafka import KafkaBroker
from sandbox.host.network_faults import Cut
from sandbox.host.ports import free_ports
from sandbox.host.tcp_proxy import TcpProxy
from sandbox.processes.model_server import ModelServerProcess
from sandbox.processes.scorer import ScorerError, ScorerProcess
from tests.end_to_end.conftest import System, request
from tests.end_to_end.test_takeover import _SUPERVISED, active, answered, until, until_standby
from tests.streamer.full_pipe import fill
from tests.streamer.kafka.test_certificates import Authority

pytestmark = pytest.mark.kafka

_WITH_STDERR = """
import os, sys
os.dup2(os.open({fifo!r}, os.O_RDWR), 2)
os.execv(sys.executable, [sys.executable, "-m", "streamer", "run"])
"""


@contextmanager
def full_fifo(path: Path) -> Iterator[int]:
    """A named pipe that accepts no further byte; yields a descriptor of both its ends."""
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDWR)
    try:
        fill(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def _read_all(reader: int) -> bytes:
    """All that can be read until the writers have nothing more to write."""
    found = b""
    while select.select([reader], [], [], 0.5)[0]:
        found += os.read(reader, 1 << 16)
    return found


@pytest.mark.slow
def test_a_log_that_nobody_reads_stops_nothing(
    make_system: Callable[[str], System], simulated_server: ModelServerProcess, tmp_path: Path
) -> None:
    system = make_system(simulated_server.address)
    fifo = tmp_path / "stderr"
    settings = {**system.settings, "supervisor.workers": 1, "supervisor.standby": 0}
    command = ("-c", _WITH_STDERR.format(fifo=str(fifo)))
    with (
        full_fifo(fifo) as reader,
        ScorerProcess(settings, tmp_path / "log", command=command, start_timeout_s=60) as scorer,
    ):
        system.send([request("first")])
        assert system.answers(1)["first"]["status"] == "ok"
        read = _read_all(reader)
        for event in ("supervisor started", "worker reads", "running"):
            assert f'"event": "{event}"'.encode() in read
        assert 'streamer_log_lines_dropped_total{worker="0"} 0.0' in (page := scorer.get("/metrics"))
        assert page.count("# TYPE streamer_log_lines_dropped_total") == 1, "of the supervisor and of its worker"
        fill(reader)
        assert scorer.stop(30) == 0


@pytest.mark.slow
def test_a_worker_without_memory_ends_and_the_standby_answers(
    make_system: Callable[[str], System], simulated_server: ModelServerProcess
) -> None:
    system = make_system(simulated_server.address)
    with system.scorer(**_SUPERVISED) as scorer:
        until_standby(scorer)
        system.send([request("before")])
        assert system.answers(1)["before"]["status"] == "ok"
        worker = psutil.Process(active(scorer))
        enough = worker.memory_info().vms
        worker.rlimit(psutil.RLIMIT_AS, (enough, enough))
        large = [f"ad-{n}-" + "x" * 3000 for n in range(300)]
        sent = [f"r{n}" for n in range(20)]
        system.send([request(each, large) for each in sent])
        until(lambda: len(set(answered(system))) == 21)
        assert b"out of memory" in scorer.log_path.read_bytes()
        assert not worker.is_running()
        found = [message.json for message in system.read(system.scores, 1000, timeout_s=1.0)]
        assert {answer["status"] for answer in found} == {"ok"}
        assert scorer.stop() == 0


_WITH_CLOCK = """
import pathlib, sys, time
offset, clock = pathlib.Path({offset!r}), time.time
time.time = lambda: clock() + float(offset.read_text())
sys.argv[1:] = ["run"]
from streamer.commands import main
main()
"""


@pytest.mark.slow
def test_a_clock_that_jumps_by_an_hour_concerns_only_budgets(
    make_system: Callable[[str], System], simulated_server: ModelServerProcess, tmp_path: Path
) -> None:
    system, offset = make_system(simulated_server.address), tmp_path / "offset"
    offset.write_text("0")
    command = ("-c", _WITH_CLOCK.format(offset=str(offset)))
    with ScorerProcess(system.settings, tmp_path / "log", command=command) as scorer:
        for number, (hours, status) in enumerate([(0, "ok"), (1, "expired"), (-1, "ok"), (0, "ok")], start=1):
            offset.write_text(str(hours * 3600))
            system.send([request(f"r{number}")])
            assert system.answers(number)[f"r{number}"]["status"] == status
        assert scorer.stop() == 0


def why_not_ready(scorer: ScorerProcess) -> str:
    try:
        return scorer.get("/readyz")
    except ScorerError as error:
        return str(error)


@contextmanager
def broker_at(
    port: int, advertised_port: int, tmp_path: Path, **settings: object
) -> Iterator[tuple[KafkaBroker, System]]:
    """A broker of its own, whose clients are told `advertised_port`, and a system on it."""
    with KafkaBroker(port=port, advertised_port=advertised_port) as broker:
        topics = ("requests", "scores", "dead", "shadow", "features")
        for topic in topics:
            broker.create_topic(topic)
        named = {"source.topic": "requests", "sink.topic": "scores", "sink.dead_letter_topic": "dead"}
        budget = {"source.budget_ms": 60_000}
        yield broker, System(broker.internal_servers, *topics, {**named, **budget, **settings}, tmp_path)


@pytest.mark.slow
def test_a_broker_that_returns_at_another_address_is_found_by_its_bootstrap_name(
    simulated_server: ModelServerProcess, tmp_path: Path
) -> None:
    """As a new pod behind the same name: the address that the scorer knows leads nowhere."""
    (port,) = free_ports(1)
    with TcpProxy(port) as name, TcpProxy(port) as new, ExitStack() as stack:
        old = stack.enter_context(TcpProxy(port))
        settings = {"kafka.bootstrap_servers": name.address, "predictor.addresses": [simulated_server.address]}
        with broker_at(port, old.port, tmp_path, **settings) as (broker, system), system.scorer() as scorer:
            system.send([request("before")])
            assert system.answers(1).keys() == {"before"}
            broker.stop()
            stack.close()
            broker.advertise(new.port)
            broker.start()
            system.send([request("after")])
            assert system.answers(2).keys() == {"before", "after"}
            assert scorer.stop() == 0


@pytest.mark.slow
def test_an_expired_certificate_of_a_broker_is_named_and_a_new_one_needs_no_restart(
    simulated_server: ModelServerProcess, tmp_path: Path
) -> None:
    (port,), authority = free_ports(1), Authority(tmp_path)
    context = authority.server(authority.issue())
    with TcpProxy(port, tls=context) as tls:
        settings = {
            "kafka.bootstrap_servers": tls.address,
            "kafka.security_protocol": "SSL",
            "kafka.ssl_ca_file": str(authority.file),
            "predictor.addresses": [simulated_server.address],
        }
        with broker_at(port, tls.port, tmp_path, **settings) as (_, system), system.scorer() as scorer:
            system.send([request("before")])
            assert system.answers(1).keys() == {"before"}
            tls.begin(Cut())
            authority.issue(expired=True).configure_cert(context)
            system.send([request("meanwhile")])
            until(lambda: "certificate has expired" in scorer.log_tail())
            tls.end(Cut())
            until(lambda: "certificate has expired" in why_not_ready(scorer))
            authority.issue().configure_cert(context)
            assert system.answers(2).keys() == {"before", "meanwhile"}
            assert scorer.stop() == 0
