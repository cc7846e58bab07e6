"""A fixed limit of concurrent calls, to compare the adaptive one with."""

import random
from collections.abc import Callable

from streamer.serving.concurrency import ConcurrencyLimit
from streamer.serving.replicas import Replicas
from streamer.settings.sections import PredictorSettings


class FixedLimit(ConcurrencyLimit):
    """Always the same limit, for comparison."""

    def __init__(self, calls: int) -> None:
        super().__init__(calls)
        self._calls = calls

    @property
    def calls(self) -> int:
        """The limit."""
        return self._calls

    calls_now = calls

    @property
    def pause(self) -> float:
        """No pause."""
        return 0.0


def replicas_of(
    settings: PredictorSettings, fixed: int | None = None, chance: Callable[[], float] = random.random
) -> Replicas:
    """The replicas of these settings; `fixed`: the limit of each, None for the adaptive one."""
    replicas = Replicas(settings, chance=chance)
    if fixed is not None:
        for server in replicas.servers.values():
            server.limit = FixedLimit(fixed)
    return replicas
