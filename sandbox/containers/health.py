"""Runs the health checks of containers. Without systemd podman runs none."""

import threading
import time
from collections.abc import Mapping
from typing import Self

from sandbox.containers.engine import Engine, container
from sandbox.containers.errors import ContainerError
from sandbox.containers.plan import Health

_RETRY_S = 0.5


def is_healthy(engine: Engine, name: str) -> bool:
    """Runs the health check of a container once."""
    return engine.succeeds("healthcheck", "run", name)


def wait_until_healthy(engine: Engine, name: str, timeout_s: float) -> float:
    """Runs the health check until it succeeds; returns the seconds. Raises ContainerError."""
    began = time.monotonic()
    while not is_healthy(engine, name):
        if time.monotonic() - began > timeout_s:
            raise ContainerError(f"{name} is not healthy after {timeout_s:.0f} s:\n{engine.logs(name)}")
        time.sleep(_RETRY_S)
    return time.monotonic() - began


class HealthChecks:
    """Runs each service's check in a thread, at its intervals, until the block ends."""

    def __init__(self, engine: Engine, services: Mapping[str, Health]) -> None:
        self._engine = engine
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(name, health), name=f"health of {name}", daemon=True)
            for name, health in services.items()
        ]
        self.first_healthy: dict[str, float] = {}
        """Wall-clock time of the first success, by service."""

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, service: str, health: Health) -> None:
        name, wait_s = container(service), 1.0
        running_since: float | None = None
        while not self._stop.wait(wait_s):
            if is_healthy(self._engine, name):
                self.first_healthy.setdefault(service, time.time())
            elif running_since is None and self._engine.runs(name):
                running_since = time.monotonic()
            wait_s = self._wait_s(service, health, running_since)

    def _wait_s(self, service: str, health: Health, running_since: float | None) -> float:
        if service in self.first_healthy:
            return health.interval_s
        if running_since is None:
            return 1.0
        starts = time.monotonic() - running_since < health.start_period_s
        # In the start period more checks give the time more exactly.
        return min(health.start_interval_s, 1.0) if starts else health.interval_s
