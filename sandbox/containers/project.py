"""The services of the compose file as running containers."""

import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from sandbox.containers.checks import Check, Times, declared, order, stopped
from sandbox.containers.engine import Compose, Engine, container
from sandbox.containers.errors import ContainerError
from sandbox.containers.facts import facts_of
from sandbox.containers.health import HealthChecks, wait_until_healthy
from sandbox.containers.plan import Service

_UP_S = 1800.0
_DOWN_S = 300.0
_HEALTHY_S = 240.0
_RESTART_S = 60.0
_POLL_S = 0.2


@dataclass(slots=True)
class Measured:
    """Figures of one service, None where they are not known: seconds, and bytes of memory."""

    start_s: float | None = None
    healthy_s: float | None = None
    memory: int | None = None
    recovered_s: float | None = None
    stop_s: float | None = None


@dataclass(slots=True)
class Project:
    """Starts, checks, kills and stops services; collects figures and checks.

    Attributes:
        services: those that run here, by name.
    """

    engine: Engine
    compose: Compose
    services: Mapping[str, Service]
    checks: list[Check] = field(default_factory=list)
    measured: dict[str, Measured] = field(default_factory=dict)

    @contextmanager
    def running(self, *, keep_volumes: bool = False) -> Iterator[None]:
        """Starts the services, checks their order, and removes everything at the end of the block.

        Raises:
            ContainerError: Docker Compose failed, or a service does not become healthy.
        """
        try:
            self.start()
            yield
        finally:
            self.remove(volumes=not keep_volumes)

    def start(self) -> None:
        """Starts all services in the declared order. Raises ContainerError."""
        began = time.time()
        with self._health_checks() as health:
            try:
                self.compose.run("up", "--detach", "--no-build", "--pull", "never", *self.services, timeout_s=_UP_S)
                for name, service in self.services.items():
                    if service.health is not None:
                        wait_until_healthy(self.engine, container(name), _HEALTHY_S)
            except ContainerError as error:
                raise ContainerError(f"{error}\n{self._failed_logs()}") from error
            while any(service.health and name not in health.first_healthy for name, service in self.services.items()):
                time.sleep(_POLL_S)
            times = {name: self._times(name, health.first_healthy.get(name)) for name in self.services}
        self.checks += order(self.services, times)
        for name, found in times.items():
            if self.services[name].health is None:
                self.checks.append(Check(name, "end", "" if found.finished else "it has not ended with status 0"))
            ready = found.healthy or found.finished
            self.measured[name] = Measured(
                start_s=found.started - began, healthy_s=None if ready is None else ready - found.started
            )

    def check_declared(self) -> None:
        """Checks each service's processes against the declaration, and that `/` is read-only."""
        for name, service in self.services.items():
            if service.health is None:
                continue
            facts = facts_of(self.pid(name))
            self.checks += declared(service, facts)
            self.measured[name].memory = facts.memory
            if service.read_only:
                command = ("exec", "--user", "0", container(name), "sh", "-c", ": > /probe")
                self.checks.append(Check(name, "write", "it could write to /" * self.engine.succeeds(*command)))

    def kill_each(self, names: Iterable[str]) -> None:
        """Kills each service as a crash does, and waits until it is healthy again."""
        for name in names:
            pid = self.pid(name)
            began = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            try:
                self._wait_for_restart(name, pid)
                wait_until_healthy(self.engine, container(name), _HEALTHY_S)
            except ContainerError as error:
                self.checks.append(Check(name, "recovery", str(error)))
                continue
            self.measured[name].recovered_s = time.monotonic() - began
            self.checks.append(Check(name, "recovery"))

    def stop_each(self, names: Sequence[str]) -> None:
        """Stops each service and compares the time with its `stop_grace_period`."""
        for name in names:
            began = time.monotonic()
            self.compose.run("stop", name)
            seconds = time.monotonic() - began
            self.measured[name].stop_s = seconds
            self.checks.append(stopped(self.services[name], seconds, self._state(name)["ExitCode"]))

    def remove(self, *, volumes: bool) -> None:
        """Removes containers and networks, and on request the volumes. Raises ContainerError."""
        self.compose.run(
            "down", "--remove-orphans", "--timeout", "5", *(["--volumes"] if volumes else []), timeout_s=_DOWN_S
        )
        if volumes:  # also those without a name, of containers that an earlier phase removed
            self.engine.podman("volume", "prune", "--force")

    def pid(self, name: str) -> int:
        """Process id of a service's first process; 0 if it does not run."""
        found: int = self._state(name)["Pid"]
        return found

    def _wait_for_restart(self, name: str, old: int) -> None:
        deadline = time.monotonic() + _RESTART_S
        while self.pid(name) in {0, old}:
            if time.monotonic() > deadline:
                raise ContainerError("the engine does not start it again")
            time.sleep(_POLL_S)

    def _health_checks(self) -> HealthChecks:
        return HealthChecks(
            self.engine, {name: each.health for name, each in self.services.items() if each.health is not None}
        )

    def _state(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(
            self.engine.podman("container", "inspect", "--format", "{{json .State}}", container(name))
        )
        return found

    def _times(self, name: str, healthy: float | None) -> Times:
        state = self._state(name)
        succeeded = state["Status"] == "exited" and state["ExitCode"] == 0
        return Times(
            datetime.fromisoformat(state["StartedAt"]).timestamp(),
            healthy,
            datetime.fromisoformat(state["FinishedAt"]).timestamp() if succeeded else None,
        )

    def _failed_logs(self) -> str:
        """The output of the services that ended with an error or are not healthy."""
        texts = []
        for name in self.services:
            try:
                state = self._state(name)
            except ContainerError:
                continue
            unhealthy = state.get("Health", state.get("Healthcheck", {})).get("Status") not in {"healthy", "", None}
            if state["ExitCode"] != 0 or (state["Status"] == "running" and unhealthy):
                texts.append(f"--- {name}\n{self.engine.logs(container(name))}")
        return "\n".join(texts)
