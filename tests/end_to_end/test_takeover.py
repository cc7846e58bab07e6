"""Processes of a real scorer die or are replaced; the session timeout is 60 s, so no answer comes from a rebalance."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import psutil
import pytest

from sandbox.broker.kafka import KafkaBroker
from sandbox.model_server.simulated import Fault, set_fault
from sandbox.processes.model_server import ModelServerProcess
from sandbox.processes.scorer import ScorerError, ScorerProcess
from tests.end_to_end.conftest import ANSWER_S, System, request

pytestmark = pytest.mark.kafka

_SUPERVISED = {"supervisor__workers": 1, "supervisor__standby": 1, "supervisor__restart_pause_ms": 100}


def workers(scorer: ScorerProcess) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(scorer.get("/workers"))
    return found


def active(scorer: ScorerProcess) -> int:
    """The process id of the active worker."""
    pid: int = next(worker["pid"] for worker in workers(scorer) if worker["state"] == "active")
    return pid


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + ANSWER_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def until_standby(scorer: ScorerProcess) -> None:
    until(lambda: sorted(worker["state"] for worker in workers(scorer)) == ["active", "standby"])


def answered(system: System) -> list[str]:
    """The request ids of all answers so far, with repetitions."""
    return [message.json["request_id"] for message in system.read(system.scores, 1_000, timeout_s=1.0)]


@pytest.mark.parametrize("guarantee", ["at_least_once", pytest.param("exactly_once", marks=pytest.mark.slow)])
def test_the_standby_answers_for_a_killed_worker(system: System, guarantee: str) -> None:
    with system.scorer(**_SUPERVISED, delivery__guarantee=guarantee) as scorer:
        sent: set[str] = set()
        for kill in range(3):
            until_standby(scorer)
            # Progress between the kills: three deaths at one offset would isolate the partition.
            until(lambda: set(answered(system)) == sent)
            ids = [f"r{kill}-{i}" for i in range(20)]
            system.send([request(each) for each in ids])
            sent.update(ids)
            os.kill(active(scorer), signal.SIGKILL)
        until(lambda: set(answered(system)) == sent)
        until_standby(scorer)
        assert scorer.metric("streamer_supervisor_worker_ends_total") == 3
        assert "one at a time" not in scorer.log_tail()
        assert scorer.stop() == 0
    found = answered(system)
    assert set(found) == sent
    if guarantee == "exactly_once":
        assert len(found) == len(sent), "a request was answered twice"
    assert not system.read(system.dead_letters, 1, timeout_s=1)


@pytest.mark.slow
@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
def test_a_reload_under_traffic_repeats_and_loses_no_answer(system: System, guarantee: str) -> None:
    with system.scorer(**_SUPERVISED, delivery__guarantee=guarantee) as scorer:
        until_standby(scorer)
        before = {worker["pid"] for worker in workers(scorer)}
        scorer.signal(signal.SIGHUP)
        total = 0
        while before & {worker["pid"] for worker in workers(scorer)}:
            system.send([request(f"r{total}")])
            total += 1
            time.sleep(0.02)
        system.send([request(f"r{total}")])
        total += 1
        assert len(system.answers(total)) == total
        until_standby(scorer)
        assert scorer.stop() == 0
    assert len(system.read(system.scores, total + 1, timeout_s=5)) == total, "a request was answered twice"


@pytest.mark.slow
def test_sigterm_hands_over_to_another_machine_at_once(system: System) -> None:
    """A static member of aiokafka sends no LeaveGroup by itself; no answer can wait for the end of its session."""
    session_ms = 2000 * int(ANSWER_S)
    one_each = {"supervisor__workers": 1, "supervisor__standby": 0, "kafka__session_timeout_ms": session_ms}
    with (
        system.scorer(**one_each, kafka__group_instance_id="first") as first,
        system.scorer(**one_each, kafka__group_instance_id="second") as second,
    ):
        machines = [first, second]
        until(lambda: sum(len(worker["partitions"]) for machine in machines for worker in workers(machine)) == 1)
        reading = next(machine for machine in machines if workers(machine)[0]["partitions"])
        machines.remove(reading)
        system.send([request("before")])
        assert system.answers(1).keys() == {"before"}
        assert reading.stop() == 0
        system.send([request("after")])
        assert system.answers(2).keys() == {"before", "after"}


@pytest.mark.slow
def test_workers_end_with_their_supervisor_and_its_next_process_goes_on(system: System) -> None:
    with system.scorer(**_SUPERVISED, kafka__group_instance_id="slot") as scorer:
        until_standby(scorer)
        processes = [psutil.Process(worker["pid"]) for worker in workers(scorer)]
        system.send([request("before")])
        assert system.answers(1).keys() == {"before"}
        scorer.kill()
        _, alive = psutil.wait_procs(processes, ANSWER_S)
        assert not alive
        system.send([request("after")])
        scorer.start()
        until(lambda: {"before", "after"} <= set(answered(system)))
        assert scorer.stop() == 0


@pytest.fixture
def fault(simulated_server: ModelServerProcess) -> Iterator[Callable[[Fault], None]]:
    """Sets the fault of the simulated model server, which works again at the end."""
    yield partial(set_fault, simulated_server.address)
    set_fault(simulated_server.address, "none")


@pytest.mark.slow
def test_a_takeover_needs_no_model_server(
    make_system: Callable[[str], System], simulated_server: ModelServerProcess, fault: Callable[[Fault], None]
) -> None:
    system = make_system(simulated_server.address)
    with system.scorer(**_SUPERVISED, cache__enabled=False) as scorer:
        until_standby(scorer)
        fault("refused")
        os.kill(active(scorer), signal.SIGKILL)
        system.send([request("without scores", deadline_ms=10_000)])
        assert system.answers(1)["without scores"]["status"] == "fallback"
        fault("none")
        until_standby(scorer)
        assert scorer.stop() == 0


@pytest.mark.slow
def test_a_reload_waits_until_a_new_worker_can_score(
    make_system: Callable[[str], System], simulated_server: ModelServerProcess, fault: Callable[[Fault], None]
) -> None:
    system = make_system(simulated_server.address)
    with system.scorer(**_SUPERVISED) as scorer:
        until_standby(scorer)
        before = active(scorer)
        fault("refused")
        scorer.signal(signal.SIGHUP)
        until(lambda: "waiting for the model server" in scorer.log_tail())
        assert "waiting for the model server" in scorer.get("/readyz"), "the page names the reason; the others work"
        assert active(scorer) == before
        fault("none")
        until(lambda: active(scorer) != before)
        until_standby(scorer)
        assert scorer.stop() == 0


@pytest.mark.slow
def test_a_broker_that_hangs_in_the_middle_of_a_takeover_loses_nothing(system: System, kafka: KafkaBroker) -> None:
    with system.scorer(**_SUPERVISED, kafka__request_timeout_ms=1000) as scorer:
        until_standby(scorer)
        system.send([request(f"before-{i}") for i in range(10)])
        until(lambda: len(set(answered(system))) == 10)
        kafka.pause()
        try:
            os.kill(active(scorer), signal.SIGKILL)
            until(lambda: "cannot be opened, retried" in scorer.log_tail())
            with pytest.raises(ScorerError, match="no worker reads"):
                scorer.get("/readyz")
        finally:
            kafka.resume()
        system.send([request("after")])
        until(lambda: set(answered(system)) == {"after", *(f"before-{i}" for i in range(10))})
        until_standby(scorer)
        assert scorer.stop() == 0
