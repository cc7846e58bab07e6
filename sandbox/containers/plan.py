"""What the compose file declares for each service. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3}
_DEFAULT_GRACE = "10s"
_DEFAULT_INTERVAL = "30s"


def seconds(duration: str) -> float:
    """A duration of Go, such as `1m30s`, in seconds."""
    return sum(float(number) * _UNITS_S[unit] for number, unit in re.findall(r"([\d.]+)(ms|h|m|s)", duration))


@dataclass(frozen=True, slots=True)
class Health:
    """When a health check runs.

    Every `start_interval_s` until it succeeds or `start_period_s` after the start, then every `interval_s`. Failures
    in the start period do not count.
    """

    start_period_s: float
    start_interval_s: float
    interval_s: float


@dataclass(frozen=True, slots=True)
class Service:
    """The declared limits of one service.

    Attributes:
        dockerfile: None if the image is not built here.
        memory: limit in bytes; shm: size of /dev/shm in bytes, None for the engine's default.
        no_capabilities: all of them are dropped; no_new_privileges: `setuid` programs gain none.
        grace_s: time between SIGTERM and SIGKILL.
        waits_for: condition by service that must hold before the start.
        restarts: the engine starts it again after a crash.
    """

    name: str
    image: str
    dockerfile: str | None
    memory: int
    shm: int | None
    read_only: bool
    no_capabilities: bool
    no_new_privileges: bool
    grace_s: float
    health: Health | None
    waits_for: Mapping[str, str]
    restarts: bool


def services_of(canonical: Mapping[str, Any]) -> dict[str, Service]:
    """The services of a project in the canonical form of Docker Compose."""
    return {name: _service(name, found) for name, found in canonical["services"].items()}


def _service(name: str, found: Mapping[str, Any]) -> Service:
    health, shm = found.get("healthcheck"), found.get("shm_size")
    return Service(
        name=name,
        image=found["image"],
        dockerfile=found["build"]["dockerfile"] if "build" in found else None,
        memory=int(found["deploy"]["resources"]["limits"]["memory"]),
        shm=None if shm is None else int(shm),
        read_only=bool(found.get("read_only")),
        no_capabilities="ALL" in found.get("cap_drop", []),
        no_new_privileges="no-new-privileges:true" in found.get("security_opt", []),
        grace_s=seconds(found.get("stop_grace_period", _DEFAULT_GRACE)),
        health=None
        if health is None
        else Health(
            start_period_s=seconds(health.get("start_period", "0s")),
            start_interval_s=seconds(health.get("start_interval", health.get("interval", _DEFAULT_INTERVAL))),
            interval_s=seconds(health.get("interval", _DEFAULT_INTERVAL)),
        ),
        waits_for={target: how["condition"] for target, how in found.get("depends_on", {}).items()},
        restarts=found.get("restart") == "unless-stopped",
    )
