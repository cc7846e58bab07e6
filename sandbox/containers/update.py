"""A rolling update of two scorers with static names, under traffic."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from sandbox.containers.checks import Check
from sandbox.containers.engine import ROOT, Compose, container
from sandbox.containers.health import wait_until_healthy
from sandbox.containers.load import Load, fault_of, not_ok, seconds_without_ok, send
from sandbox.containers.project import Project

SLOTS = ("scorer-0", "scorer-1")
LOAD = Load("update", rate=50.0, budget_ms=200.0)
_FILES = (ROOT / "docker-compose.yml", ROOT / "sandbox" / "containers" / "slots.yml")
_BEFORE_S = 10.0
_HEALTHY_S = 120.0


@dataclass(frozen=True, slots=True)
class Updated:
    """Figures of an update.

    Attributes:
        sent, lost, duplicates: requests, those without an answer, and answers after the first.
        not_ok: share of the requests without an answer `ok`; steady_not_ok: the same without an update.
        seconds_without_ok: of the update, by the time of sending.
        stop_s, ready_s: seconds from SIGTERM to the end, and from the start to ready, by slot.
        seconds: of the whole update.
    """

    sent: int
    lost: int
    duplicates: int
    not_ok: float
    steady_not_ok: float
    seconds_without_ok: int
    stop_s: dict[str, float]
    ready_s: dict[str, float]
    seconds: float


def update(project: Project, say: Callable[[str], None]) -> Updated:
    """Replaces the scorer of a running project by two slots, and then each slot.

    As a StatefulSet does: the highest ordinal first; SIGTERM, wait for the end, start the new one, wait for `/readyz`,
    next.

    Raises:
        ContainerError: a slot does not stop or does not become ready.
    """
    compose = Compose(project.engine, _FILES, project.compose.variables)
    compose.run("stop", "traffic", "streamer")
    compose.run("up", "--detach", "--no-build", "--no-deps", "--pull", "never", *SLOTS)
    for slot in SLOTS:
        wait_until_healthy(project.engine, container(slot), _HEALTHY_S)
    send(Load("settle", rate=LOAD.rate), seconds=_BEFORE_S)
    steady = send(Load("steady", rate=LOAD.rate, budget_ms=LOAD.budget_ms), seconds=_BEFORE_S)
    stop_s: dict[str, float] = {}
    ready_s: dict[str, float] = {}

    def replace_each() -> None:
        for slot in reversed(SLOTS):
            time.sleep(3.0)
            began = time.monotonic()
            compose.run("stop", slot)
            stopped = time.monotonic()
            compose.run("up", "--detach", "--no-build", "--no-deps", "--force-recreate", "--pull", "never", slot)
            wait_until_healthy(project.engine, container(slot), _HEALTHY_S)
            stop_s[slot], ready_s[slot] = stopped - began, time.monotonic() - stopped
            say(f"  {slot}: stopped in {stop_s[slot]:.1f} s, the new one ready in {ready_s[slot]:.1f} s")
        time.sleep(3.0)

    began = time.monotonic()
    report = send(LOAD, meanwhile=replace_each)
    project.checks.append(Check("rolling update", "answers", fault_of(report, duplicates_allowed=True)))
    return Updated(
        report.requests_sent,
        report.lost,
        report.duplicates,
        not_ok(report),
        not_ok(steady),
        seconds_without_ok(report),
        stop_s,
        ready_s,
        time.monotonic() - began,
    )
