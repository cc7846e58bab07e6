"""The comparisons of containers with the compose file."""

from dataclasses import replace

import pytest

from sandbox.containers.checks import Check, Times, declared, order, stopped
from sandbox.containers.facts import Facts, status_of
from sandbox.containers.plan import Health, seconds, services_of

CANONICAL = {
    "services": {
        "broker": {
            "image": "broker:1.0.0",
            "deploy": {"resources": {"limits": {"memory": "1000"}}},
            "healthcheck": {"start_period": "1m0s", "interval": "1m30s", "start_interval": "500ms"},
            "restart": "unless-stopped",
        },
        "scorer": {
            "image": "scorer:1.0.0",
            "build": {"dockerfile": "deploy/scorer.Dockerfile"},
            "deploy": {"resources": {"limits": {"memory": "2000"}}},
            "shm_size": "500",
            "read_only": True,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true"],
            "stop_grace_period": "30s",
            "depends_on": {"broker": {"condition": "service_healthy"}},
        },
    }
}
SERVICES = services_of(CANONICAL)
SCORER = SERVICES["scorer"]
AS_DECLARED = Facts(
    users=frozenset({10001}),
    capabilities=0,
    no_new_privileges=True,
    root_is_read_only=True,
    memory=900,
    memory_limit=2000,
)


@pytest.mark.parametrize(("text", "expected"), [("30s", 30.0), ("1m0s", 60.0), ("1h2m3.5s", 3723.5), ("500ms", 0.5)])
def test_durations_are_those_of_go(text: str, expected: float) -> None:
    assert seconds(text) == expected


def test_a_declaration_is_read_with_the_defaults_of_compose() -> None:
    broker = SERVICES["broker"]
    assert (broker.grace_s, broker.shm, broker.read_only, broker.restarts) == (10.0, None, False, True)
    assert broker.health == Health(start_period_s=60.0, start_interval_s=0.5, interval_s=90.0)
    assert (SCORER.grace_s, SCORER.shm, SCORER.memory, SCORER.health) == (30.0, 500, 2000, None)
    assert SCORER.waits_for == {"broker": "service_healthy"}


def faults(checks: list[Check]) -> set[str]:
    return {check.name for check in checks if check.fault}


def test_a_container_as_declared_has_no_fault() -> None:
    assert faults(declared(SCORER, AS_DECLARED)) == set()


@pytest.mark.parametrize(
    ("facts", "fault"),
    [
        (replace(AS_DECLARED, users=frozenset({0, 10001})), "user"),
        (replace(AS_DECLARED, capabilities=1), "capabilities"),
        (replace(AS_DECLARED, no_new_privileges=False), "no-new-privileges"),
        (replace(AS_DECLARED, root_is_read_only=False), "read-only"),
        (replace(AS_DECLARED, memory=2000), "memory"),
        (replace(AS_DECLARED, memory_limit=0), "memory limit"),
    ],
)
def test_a_container_that_differs_has_one(facts: Facts, fault: str) -> None:
    assert faults(declared(SCORER, facts)) == {fault}


@pytest.mark.parametrize(("healthy", "expected"), [(5.0, set()), (None, {"after broker"}), (20.0, {"after broker"})])
def test_a_service_starts_after_its_dependency_is_healthy(healthy: float | None, expected: set[str]) -> None:
    assert faults(order(SERVICES, {"broker": Times(1.0, healthy), "scorer": Times(10.0)})) == expected


@pytest.mark.parametrize(("seconds_", "status", "holds"), [(1.0, 0, True), (1.0, 137, False), (31.0, 143, False)])
def test_a_service_ends_by_itself_in_the_declared_time(seconds_: float, status: int, holds: bool) -> None:
    assert (stopped(SCORER, seconds_, status).fault == "") is holds


def test_a_status_of_the_kernel_is_read() -> None:
    assert status_of("Uid:\t1\t2\t1\t1\nNoNewPrivs:\t1\n") == {"Uid": "1\t2\t1\t1", "NoNewPrivs": "1"}
