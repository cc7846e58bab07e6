"""The life cycle of one worker process."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from structlog.typing import FilteringBoundLogger

from streamer.assembly import Assembly, Scorer
from streamer.deadline import Deadline
from streamer.errors import ConfigError, FencedError, PredictError, UnreachableError
from streamer.kafka import clients, groups, topics
from streamer.kafka.broker_watch import BrokerWatch
from streamer.kafka.offsets import OffsetTracker
from streamer.kafka.source import Source
from streamer.kafka.topic_ids import topic_fingerprint
from streamer.metrics import Metrics
from streamer.ops.http_server import HttpServer
from streamer.ops.worker_handlers import WorkerHandlers
from streamer.pipeline import Pipeline
from streamer.rollout.registry import ModelRegistry
from streamer.settings import Settings
from streamer.supervision.worker_link import WorkerLink
from streamer.tasks import TaskOwner, probe_loop, set_within
from streamer.types import Record

State = Literal["STARTING", "RUNNING", "DRAINING", "STOPPED"]
_TRANSITIONS: Mapping[State, frozenset[State]] = {
    "STARTING": frozenset({"RUNNING", "STOPPED"}),
    "RUNNING": frozenset({"DRAINING", "STOPPED"}),
    "DRAINING": frozenset({"STOPPED"}),
    "STOPPED": frozenset(),
}
_START_RETRY_S = 1.0
# After the drain, the commit and the disconnections share the first time; each gets at least the second one.
_LEAVE_MS = 8000.0
_AT_LEAST_S = 0.5


class Service:
    """Runs one worker until SIGTERM or SIGINT, then drains it.

    A drain stops reading, answers the records in flight, commits and leaves the group. A second signal ends the process
    at once, unless it has a supervisor.
    """

    def __init__(self, settings: Settings, log: FilteringBoundLogger) -> None:
        self.settings = settings
        self.state: State = "STARTING"
        self.metrics = Metrics()
        self._log = log
        self._clock = time.monotonic
        self._tasks = TaskOwner()
        self.assembly = Assembly(settings, self.metrics, log, self._clock, self._tasks.spawn)
        self._stop = asyncio.Event()
        self._why_not: str | None = "starting"
        self._leave_by: Deadline | None = None
        self._wrong: ConfigError | None = None
        self._models: ModelRegistry | None = None
        self._link: WorkerLink | None = None
        self._outages: list[Callable[[], str | None]] = []
        handlers = WorkerHandlers(
            self.metrics.registry,
            lambda: self.state,
            lambda: self.why_not_ready,
            lambda: self._models,
            config=settings.model_dump_json(),
        )
        self._ops = HttpServer(settings.ops, handlers.routes())

    async def run(self) -> bool:
        """Starts, serves and drains; returns whether every record in flight was answered in time.

        Raises:
            ConfigError: a topic is missing, a right is missing, the operations port is in use, the brokers reject this
                worker, or another process has taken the static name in the group; in the last case the records in
                flight are answered first.
        """
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(clients.handle_loop_error)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        try:
            async with AsyncExitStack() as stack:
                await self._start_ops(stack)
                all_answered = await self._serve(stack)
        except* FencedError as fenced:
            # Several partitions may be fenced at once; one line says it.
            self._log.error("fenced, this worker stops", error=str(fenced.exceptions[0]))
            all_answered = False
        finally:
            self._enter("STOPPED")
            self._log.info("stopped")
        if self._wrong is not None:
            raise self._wrong
        return all_answered

    @property
    def why_not_ready(self) -> str | None:
        """The reason why no record would be scored now; None if one would."""
        return self._why_not or next(filter(None, (outage() for outage in self._outages)), None)

    def stop(self) -> None:
        """Begins to drain."""
        self._stop.set()

    def _enter(self, state: State) -> None:
        assert state in _TRANSITIONS[self.state], f"{self.state} -> {state}"
        self.state = state
        self._why_not = None if state == "RUNNING" else state.lower()

    def _signalled(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            if self.settings.supervisor.link is not None:
                # Its death closes the link and sends SIGTERM. A process manager may signal all processes. A supervisor
                # that does not wait for the drain kills.
                return
            self._log.error("second signal, leaving at once; records in flight will be read again")
            sys.stderr.flush()
            os._exit(128 + number)
        self._log.info("draining", signal=signal.Signals(number).name)
        self.stop()

    async def _start_ops(self, stack: AsyncExitStack) -> None:
        stack.push_async_callback(self._ops.stop)
        await self._ops.start()
        self._log.info("ops port", host=self.settings.ops.host, port=self._ops.port)

    async def _serve(self, stack: AsyncExitStack) -> bool:
        """Starts each part after the parts that it needs; `stack` stops them in reverse order."""
        settings, assembly = self.settings, self.assembly
        predictor, cache = assembly.predictor(), assembly.cache()
        stack.push_async_callback(predictor.close)
        models = assembly.models(predictor.control, cache)
        await self._until_done("model server", models.refresh, PredictError)
        self._models = models
        required = topics.required_topics(settings)
        await self._until_done("brokers", lambda: topics.check_topics(settings, required), UnreachableError)
        await self._until_done("brokers", lambda: groups.check_group(settings), UnreachableError)
        if self._stop.is_set():
            return True
        if settings.supervisor.link is not None:
            self._link = await WorkerLink.over(settings.supervisor.link)
        # The feature log has a producer of its own: answers do not queue behind it on their way to a broker.
        sinks = [assembly.sink() for _ in range(2 if settings.feature_log.share else 1)]
        for sink in sinks:
            stack.push_async_callback(self._in_time, "producer", sink.stop)
            await self._until_done("brokers", sink.start, clients.UNAVAILABLE)
        offsets = OffsetTracker()
        transactions = None
        if settings.delivery.guarantee == "exactly_once":
            transactions = assembly.transactions(offsets)
            stack.push_async_callback(self._in_time, "transactions", transactions.stop)
        commits_of = partial(groups.commits_of, settings)
        consumer = self._consumer()
        topic_now = partial(topic_fingerprint, consumer, settings.source.topic)
        source = assembly.source(consumer, offsets, commits_of, transactions, topic_now=topic_now)
        stack.push_async_callback(self._in_time, "consumer", source.stop)
        await self._until_done("brokers", source.start, clients.UNAVAILABLE)
        scorer = assembly.scorer(
            source,
            predictor,
            transactions or sinks[0],
            models=models,
            cache=cache,
            publish_shadow=partial(sinks[0].send, settings.sink.shadow_topic),
            publish_rows=partial(sinks[-1].send, settings.sink.feature_log_topic),
        )
        return await self.work(source, scorer)

    async def work(self, source: Source, scorer: Scorer) -> bool:
        """Scores records until `stop`, then drains; returns whether all records were answered."""
        async with self._tasks.running() as tasks:
            reading = tasks.spawn(self._read(source.chunks(), scorer.pipeline), "read")
            backlog = replace(scorer.pipeline, source=source.backlog)
            brokers = BrokerWatch(source, self._clock, self.settings.kafka)
            side = [
                tasks.spawn(self._read(source.backlog.chunks(), backlog), "backlog"),
                tasks.spawn(self._commit_when_due(source), "commit"),
                tasks.spawn(source.positions.watch(), "positions"),
                tasks.spawn(scorer.models.poll(), "models"),
                tasks.spawn(brokers.run(), "brokers"),
                tasks.spawn(probe_loop(self._clock, self.metrics.loop_delay.observe), "loop delay"),
                *(tasks.spawn(output.run(), "side output") for output in scorer.side_outputs),
            ]
            self._outages = [brokers.outage, scorer.models.outage]
            self._enter("RUNNING")
            self._log.info("running", topic=self.settings.source.topic, group=self.settings.kafka.group_id)
            if self._link is not None:
                tasks.spawn(self._follow(self._link, source, scorer.models), "link")
            await self._stop.wait()

            self._enter("DRAINING")
            deadline = Deadline.after(self._clock(), self.settings.service.drain_ms)
            source.close()
            scorer.dispatcher.drain()
            await asyncio.wait([reading], timeout=deadline.remaining(self._clock()))
            reading.cancel()
            all_answered = await source.join(deadline)
            for task in side:
                task.cancel()
            left = source.unacknowledged
            await self._in_time("group", source.leave)
            if not all_answered:
                self._log.error("drained in part, the rest will be read again", unacknowledged=left)
            # Tasks of records whose partitions were revoked may be left in any case; `source` does not count them.
            tasks.cancel()
            return all_answered

    def _consumer(self) -> Any:
        if self._link is None:
            return clients.consumer(self.settings)
        return clients.assigned_consumer(self.settings, self._link.commit)

    async def _follow(self, link: WorkerLink, source: Source, models: ModelRegistry) -> None:
        """Executes the supervisor's commands; drains when the supervisor has ended."""
        await link.run(source, models, self._tasks.spawn)
        if not self._stop.is_set():
            self._log.error("the supervisor has ended, draining")
            self.stop()

    async def _read(self, chunks: AsyncIterator[list[Record]], pipeline: Pipeline) -> None:
        try:
            async for chunk in chunks:
                for record in chunk:
                    self._tasks.spawn(pipeline.answer(record), "record")
        except ConfigError as error:
            self._log.error("draining", error=str(error))
            self._wrong = error
            self.stop()

    async def _commit_when_due(self, source: Source) -> None:
        try:
            while True:
                await source.commit_when_due()
                source.lag.measure()
        except FencedError:
            if self.settings.kafka.group_instance_id is not None:
                # A process that has taken this static name also fences this process. Then the next heartbeat ends
                # `_read`, and the exit status says that the settings are wrong.
                await asyncio.sleep(2 * self.settings.kafka.heartbeat_interval_ms / 1e3)
            raise

    async def _in_time(self, what: str, leave: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Waits for the brokers' part of the shutdown, within the time that all such waits share."""
        self._leave_by = self._leave_by or Deadline.after(self._clock(), _LEAVE_MS)
        task = asyncio.create_task(leave(), name=what)
        await asyncio.wait([task], timeout=max(_AT_LEAST_S, self._leave_by.remaining(self._clock())))
        if not task.done():
            task.cancel()
            self._log.warning("the brokers do not answer, left without them", left=what)
        elif not task.cancelled():  # a client that is stopped in the middle of its work may cancel its caller
            task.result()

    async def _until_done(
        self,
        what: str,
        attempt: Callable[[], Awaitable[object]],
        not_yet: type[Exception] | tuple[type[Exception], ...],
    ) -> None:
        """Retries until it succeeds or `stop` is called; /readyz shows the reason of the wait."""
        while not self._stop.is_set():
            try:
                await self._unless_stopped(attempt())
            except Exception as error:
                # Only a rejection is final: its exit status makes a supervisor drain all workers.
                if not (isinstance(error, not_yet) or getattr(error, "retriable", False)):
                    if isinstance(error, clients.CLIENT_ERROR):
                        raise ConfigError(f"kafka: the brokers reject this worker: {error}") from error
                    raise
                self._why_not = f"waiting for the {what}: {error}"
                self._log.warning(f"waiting for the {what}", error=str(error))
                await set_within(self._stop, _START_RETRY_S)
            else:
                return

    async def _unless_stopped(self, attempt: Awaitable[object]) -> None:
        """Runs an attempt; cancels it when `stop` is called.

        aiokafka retries to join its group without a limit.
        """
        attempting = asyncio.ensure_future(attempt)
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
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
