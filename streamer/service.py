"""The life cycle of one worker process."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any

from structlog.typing import FilteringBoundLogger

from streamer.assembly import Assembly, Scorer
from streamer.deadline import Deadline
from streamer.errors import ConfigError, FencedError, PredictError, UnreachableError
from streamer.http.endpoint import Endpoint
from streamer.kafka import clients, groups, topics
from streamer.kafka.broker_watch import BrokerWatch
from streamer.kafka.offsets import OffsetTracker
from streamer.kafka.source import Source
from streamer.kafka.topic_ids import topic_fingerprint
from streamer.lifecycle import Lifecycle
from streamer.metrics import Metrics
from streamer.pipeline import Pipeline
from streamer.rollout.registry import ModelRegistry
from streamer.settings import Settings
from streamer.supervision.worker_link import WorkerLink
from streamer.tasks import TaskOwner, probe_loop
from streamer.types import Record

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
        self.metrics = Metrics()
        self.life = Lifecycle(settings, self.metrics, log)
        self._log = log
        self._clock = self.life.clock
        self._tasks = TaskOwner()
        self.assembly = Assembly(settings, self.metrics, log, self._clock, self._tasks.spawn)
        self._leave_by: Deadline | None = None
        self._wrong: ConfigError | None = None
        self._link: WorkerLink | None = None

    async def run(self) -> bool:
        """Starts, serves and drains; returns whether every record in flight was answered in time.

        Raises:
            ConfigError: a topic is missing, a right is missing, the operations port is in use, the brokers reject this
                worker, or another process has taken the static name in the group; in the last case the records in
                flight are answered first.
        """
        async with self.life.running():
            try:
                async with AsyncExitStack() as stack:
                    all_answered = await self._serve(stack)
            except* FencedError as fenced:
                # Several partitions may be fenced at once; one line says it.
                self._log.error("fenced, this worker stops", error=str(fenced.exceptions[0]))
                all_answered = False
        if self._wrong is not None:
            raise self._wrong
        return all_answered

    def stop(self) -> None:
        """Begins to drain."""
        self.life.stopping.set()

    async def _serve(self, stack: AsyncExitStack) -> bool:
        """Starts each part after the parts that it needs; `stack` stops them in reverse order."""
        settings, assembly = self.settings, self.assembly
        tracing, schemas = assembly.tracing(), assembly.schemas()
        if schemas is not None:
            stack.push_async_callback(schemas.close)
        predictor, cache = assembly.predictor(), assembly.cache()
        stack.push_async_callback(predictor.close)
        tables = await self.life.follow(assembly.ad_tables(), stack)
        models = assembly.models(predictor.control, cache, tables)
        await self.life.until_done("model server", models.refresh, PredictError)
        self.life.models = models
        required = topics.required_topics(settings)
        await self.life.until_done("brokers", lambda: topics.check_topics(settings, required), UnreachableError)
        await self.life.until_done("brokers", lambda: groups.check_group(settings), UnreachableError)
        if schemas is not None:
            await self.life.until_done("schema registry", schemas.check, UnreachableError)
        if self.life.stopping.is_set():
            return True
        if settings.supervisor.link is not None:
            self._link = await WorkerLink.over(settings.supervisor.link)
        # The feature log has a producer of its own: answers do not queue behind it on their way to a broker.
        sinks = [assembly.sink() for _ in range(2 if settings.feature_log.share else 1)]
        for sink in sinks:
            stack.push_async_callback(self._in_time, "producer", sink.stop)
            await self.life.until_done("brokers", sink.start, clients.UNAVAILABLE)
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
        await self.life.until_done("brokers", source.start, clients.UNAVAILABLE)
        scorer = assembly.scorer(
            source,
            predictor,
            transactions or sinks[0],
            models=models,
            cache=cache,
            publish_shadow=partial(sinks[0].send, settings.sink.shadow_topic),
            publish_rows=partial(sinks[-1].send, settings.sink.feature_log_topic),
            tracing=tracing,
            schemas=schemas,
        )
        endpoint = None
        if settings.http.port is not None:
            endpoint = assembly.endpoint(scorer.pipeline)
            stack.push_async_callback(endpoint.stop)
            if self._link is None:
                await endpoint.start()
        return await self.work(source, scorer, endpoint)

    async def work(self, source: Source, scorer: Scorer, endpoint: Endpoint | None = None) -> bool:
        """Scores records until `stop`, then drains; returns whether everything was answered."""
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
            self.life.outages = [brokers.outage, scorer.models.outage]
            if self._link is None:  # a supervisor has its own page
                side.append(tasks.spawn(self.life.handlers.watch(), "status history"))
            if endpoint is not None:
                side.append(tasks.spawn(self._open(endpoint), "http"))
            self.life.enter("RUNNING")
            self._log.info("running", topic=self.settings.source.topic, group=self.settings.kafka.group_id)
            if self._link is not None:
                tasks.spawn(self._follow(self._link, source, scorer.models), "link")
            await self.life.stopping.wait()

            self.life.enter("DRAINING")
            deadline = Deadline.after(self._clock(), self.settings.service.drain_ms)
            source.close()
            if endpoint is not None:
                side.pop().cancel()
                await endpoint.close()
            scorer.dispatcher.drain()
            await asyncio.wait([reading], timeout=deadline.remaining(self._clock()))
            reading.cancel()
            all_answered = records_answered = await source.join(deadline)
            if endpoint is not None:
                all_answered &= await endpoint.join(deadline)
                await endpoint.stop()
            for task in side:
                task.cancel()
            left = source.unacknowledged
            await self._in_time("group", source.leave)
            if scorer.tracing is not None:
                await scorer.tracing.export.stop(deadline)
            if not records_answered:
                self._log.error("drained in part, the rest will be read again", unacknowledged=left)
            # Tasks of records whose partitions were revoked may be left in any case; `source` does not count them.
            tasks.cancel()
            return all_answered

    def _consumer(self) -> Any:
        if self._link is None:
            return clients.consumer(self.settings)
        return clients.assigned_consumer(self.settings, self._link.commit)

    async def _open(self, endpoint: Endpoint) -> None:
        """Opens the endpoint; under a supervisor only when the worker has its models' orders."""
        if self._link is not None:
            await self._link.admitted.wait()
            try:
                await endpoint.start()
            except ConfigError as error:
                self._end_wrong(error)
        endpoint.open()

    def _end_wrong(self, error: ConfigError) -> None:
        """Begins to drain; the exit status says that the settings are wrong."""
        self._log.error("draining", error=str(error))
        self._wrong = error
        self.stop()

    async def _follow(self, link: WorkerLink, source: Source, models: ModelRegistry) -> None:
        """Executes the supervisor's commands; drains when the supervisor has ended."""
        await link.run(source, models, self._tasks.spawn)
        if not self.life.stopping.is_set():
            self._log.error("the supervisor has ended, draining")
            self.stop()

    async def _read(self, chunks: AsyncIterator[list[Record]], pipeline: Pipeline) -> None:
        try:
            async for chunk in chunks:
                for record in chunk:
                    self._tasks.spawn(pipeline.answer(record), "record")
        except ConfigError as error:
            self._end_wrong(error)

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
