"""The life cycle of a process that scores: states, signals, operations port, start."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal

from structlog.typing import FilteringBoundLogger

from streamer import native
from streamer.distribution import installed_version
from streamer.errors import ConfigError, TableLoadingError, UnreachableError
from streamer.kafka import clients
from streamer.kafka.topics import check_ads
from streamer.metrics import Metrics
from streamer.ops.http_server import HttpServer
from streamer.ops.worker_handlers import WorkerHandlers
from streamer.rollout.registry import ModelRegistry
from streamer.settings import Settings
from streamer.tables.ad_tables import AdTables
from streamer.tasks import set_within

State = Literal["STARTING", "RUNNING", "DRAINING", "STOPPED"]
_TRANSITIONS: Mapping[State, frozenset[State]] = {
    "STARTING": frozenset({"RUNNING", "STOPPED"}),
    "RUNNING": frozenset({"DRAINING", "STOPPED"}),
    "DRAINING": frozenset({"STOPPED"}),
    "STOPPED": frozenset(),
}
_START_RETRY_S = 1.0
_LOADING_RETRY_S = 0.1  # beside the wait in each attempt
_AT_LEAST_S = 0.5


class Lifecycle:
    """State and operations port of one process.

    SIGTERM or SIGINT sets `stopping`. A second signal ends the process at once, unless it has a supervisor.

    Attributes:
        models: None before a model is prepared.
        outages: each returns the reason of an outage, or None.
        handlers: those of the operations port.
    """

    def __init__(self, settings: Settings, metrics: Metrics, log: FilteringBoundLogger) -> None:
        self.state: State = "STARTING"
        self.stopping = asyncio.Event()
        self.models: ModelRegistry | None = None
        self.outages: list[Callable[[], str | None]] = []
        self.clock = time.monotonic
        self._settings = settings
        self._log = log
        self._why_not: str | None = "starting"
        self.handlers = WorkerHandlers(
            metrics.registry,
            lambda: self.state,
            lambda: self.why_not_ready,
            lambda: self.models,
            config=settings.model_dump_json(),
        )
        self._ops = HttpServer(settings.ops, self.handlers.routes())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The block in which the process lives, with its signals and its operations port.

        Raises:
            ConfigError: the operations port is in use.
        """
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(clients.handle_loop_error)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        self._log.info("starting", version=installed_version(), native=native.state)
        try:
            await self._ops.start()
            self._log.info("ops port", host=self._settings.ops.host, port=self._ops.port)
            yield
        finally:
            await self._ops.stop()
            self.enter("STOPPED")
            self._log.info("stopped")

    @property
    def why_not_ready(self) -> str | None:
        """The reason why no record would be scored now; None if one would."""
        return self._why_not or next(filter(None, (outage() for outage in self.outages)), None)

    def enter(self, state: State) -> None:
        """Changes the state."""
        assert state in _TRANSITIONS[self.state], f"{self.state} -> {state}"
        self.state = state
        self._why_not = None if state == "RUNNING" else state.lower()

    def _signalled(self, number: signal.Signals) -> None:
        if self.stopping.is_set():
            if self._settings.supervisor.link is not None:
                # Its death closes the link and sends SIGTERM. A process manager may signal all processes. A supervisor
                # that does not wait for the drain kills.
                return
            self._log.error("second signal, leaving at once; records in flight will be read again")
            sys.stderr.flush()
            os._exit(128 + number)
        self._log.info("draining", signal=signal.Signals(number).name)
        self.stopping.set()

    async def follow(self, tables: AdTables | None, stack: AsyncExitStack) -> AdTables | None:
        """Follows the topic of ads, if there are tables, until `stack` closes.

        It begins when the brokers answer.

        Raises:
            ConfigError: as `check_ads`.
        """
        if tables is not None:
            await self.until_done("brokers", lambda: check_ads(self._settings, self._log), UnreachableError)
            await stack.enter_async_context(tables.running())
        return tables

    async def until_done(
        self,
        what: str,
        attempt: Callable[[], Awaitable[object]],
        not_yet: type[Exception] | tuple[type[Exception], ...],
    ) -> None:
        """Retries until it succeeds or `stopping` is set; /readyz shows the reason of the wait."""
        while not self.stopping.is_set():
            try:
                await self._unless_stopped(attempt())
            except TableLoadingError as error:
                self._why_not = error.detail
                await set_within(self.stopping, _LOADING_RETRY_S)
            except Exception as error:
                # Only a rejection is final: its exit status makes a supervisor drain all workers.
                if not (isinstance(error, not_yet) or getattr(error, "retriable", False)):
                    if isinstance(error, clients.CLIENT_ERROR):
                        raise ConfigError(f"kafka: the brokers reject this worker: {error}") from error
                    raise
                self._why_not = f"waiting for the {what}: {error}"
                self._log.warning(f"waiting for the {what}", error=str(error))
                await set_within(self.stopping, _START_RETRY_S)
            else:
                return

    async def _unless_stopped(self, attempt: Awaitable[object]) -> None:
        """Runs an attempt; cancels it when `stopping` is set.

        aiokafka retries to join its group without a limit.
        """
        attempting = asyncio.ensure_future(attempt)
        stopping = asyncio.create_task(self.stopping.wait(), name="stop")
        try:
            await asyncio.wait([attempting, stopping], return_when=asyncio.FIRST_COMPLETED)
            if attempting.done():
                attempting.result()
                return
            attempting.cancel()
            await asyncio.wait([attempting], timeout=_AT_LEAST_S)
        finally:
            stopping.cancel()
            attempting.cancel()
