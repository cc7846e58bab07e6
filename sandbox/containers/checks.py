"""Compares a container with its declaration. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from sandbox.containers.facts import Facts
from sandbox.containers.plan import Service


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison of a service; `fault` is empty if it holds."""

    service: str
    name: str
    fault: str = ""


def declared(service: Service, facts: Facts) -> list[Check]:
    """The processes have the declared limits and rights, and none is root."""

    def check(name: str, fault: str, holds: bool) -> Check:
        return Check(service.name, name, "" if holds else fault)

    found = [
        check("user", "a process runs as root", 0 not in facts.users),
        check(
            "memory limit",
            f"{facts.memory_limit:,} bytes, not {service.memory:,}",
            facts.memory_limit == service.memory,
        ),
        check("memory", f"{facts.memory:,} bytes of {service.memory:,}", facts.memory < service.memory),
    ]
    if service.read_only:
        found.append(check("read-only", "the root file system is writable", facts.root_is_read_only))
    if service.no_capabilities:
        found.append(check("capabilities", f"it has {facts.capabilities:#x}", facts.capabilities == 0))
    if service.no_new_privileges:
        found.append(check("no-new-privileges", "not set", facts.no_new_privileges))
    return found


@dataclass(frozen=True, slots=True)
class Times:
    """Wall-clock seconds of one container; None where it has not happened.

    Attributes:
        finished: with exit status 0.
    """

    started: float
    healthy: float | None = None
    finished: float | None = None


def order(services: Mapping[str, Service], times: Mapping[str, Times]) -> list[Check]:
    """Each service started after its conditions, with a second for two clocks."""
    found = []
    for name, own in times.items():
        for target, condition in services[name].waits_for.items():
            other = times[target]
            met = other.healthy if condition == "service_healthy" else other.finished
            fault = "" if met is not None and met <= own.started + 1.0 else f"it started before {target} was ready"
            found.append(Check(name, f"after {target}", fault))
    return found


def stopped(service: Service, seconds: float, status: int) -> Check:
    """It ended by itself within the declared time: status 137 is SIGKILL."""
    if status == 137 or seconds > service.grace_s:
        return Check(service.name, "stop", f"{seconds:.1f} s of {service.grace_s:.0f} s, status {status}")
    return Check(service.name, "stop")
