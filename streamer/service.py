"""One worker's life: STARTING, RUNNING, DRAINING, STOPPED. It owns every task of the process."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Literal, TypeVar

from structlog.typing import FilteringBoundLogger

from streamer.deadline import Deadline
from streamer.errors import ConfigError, FencedError, PredictError, UnreachableError
from streamer.kafka import clients
from streamer.kafka.delivery import Delivery
from streamer.kafka.offsets import OffsetTracker
from streamer.kafka.sink import Sink
from streamer.kafka.source import Source
from streamer.kafka.transactions import Transactions
from streamer.metrics import Metrics
from streamer.ops.worker_http import OpsServer
from streamer.pipeline import Answers, Pipeline
from streamer.rollout.controller import Model
from streamer.rollout.models import Models
from streamer.rollout.observed_calls import Calls
from streamer.scoring.cache import ScoreCache
from streamer.scoring.dispatcher import Dispatcher
from streamer.scoring.scores import HitRatio, Scores
from streamer.serving.predictor import Predictor
from streamer.settings import Settings
from streamer.side_outputs.feature_log import FeatureLog
from streamer.side_outputs.shadow import Shadow
from streamer.tasks import set_within
from streamer.types import Partition

State = Literal["STARTING", "RUNNING", "DRAINING", "STOPPED"]
_START_RETRY_S = 1.0
_LOOP_PROBE_S = 0.1
# For the last commit and the good-byes to the brokers, beyond the time for draining: they may be gone.
_LEAVE_MS = 8000.0
_AT_LEAST_S = 0.5
_T = TypeVar("_T")


class Service:
    """Runs until SIGTERM or SIGINT, then drains: reads no more, answers what is in flight, commits, leaves the group.

    A second signal ends the process at once. `run` returns True if everything in flight was answered in time.
    """

    def __init__(self, settings: Settings, log: FilteringBoundLogger) -> None:
        self.settings = settings
        self.state: State = "STARTING"
        self.metrics = Metrics()
        self._log = log
        self._clock = time.monotonic
        self._stop = asyncio.Event()
        self._why_not: str | None = "starting"
        self._leave_by: Deadline | None = None
        self._models: Models | None = None
        self._ops = OpsServer(
            settings.ops,
            self.metrics.registry,
            lambda: self.state,
            lambda: self._why_not,
            lambda: self._models,
            config=settings.model_dump_json(),
        )

    async def run(self) -> bool:
        """Starts, serves and drains.

        Raises:
            ConfigError: a topic is missing, or the ops port is taken.
        """
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(clients.handle_unowned)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        try:
            await self._start_ops()
            try:
                return await self._serve()
            finally:
                await self._ops.stop()
        finally:
            self.state = "STOPPED"
            self._log.info("stopped")

    def stop(self) -> None:
        """Begins to drain."""
        self._stop.set()

    def _signalled(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            self._log.error("second signal, leaving at once; what is in flight will be read again")
            os._exit(128 + number)
        self._log.info("draining", signal=signal.Signals(number).name)
        self.stop()

    async def _start_ops(self) -> None:
        try:
            await self._ops.start()
        except OSError as error:
            ops = self.settings.ops
            raise ConfigError(f"ops: cannot listen on {ops.host}:{ops.port}: {error.strerror}") from error
        self._log.info("ops port", host=self.settings.ops.host, port=self._ops.port)

    async def _serve(self) -> bool:
        settings, log = self.settings, self._log
        cache = ScoreCache(settings.cache) if settings.cache.enabled else None
        predictor = Predictor(settings.predictor, self.metrics, self._clock)
        models = Models(
            [
                Model(name, predictor.control, settings, cache, metrics=self.metrics, log=log, clock=self._clock)
                for name in settings.predictor.models
            ]
        )
        source: Source | None = None
        sink: Sink | None = None
        log_sink: Sink | None = None
        transactions: Transactions | None = None
        try:
            await self._until_done("model server", models.refresh, PredictError)
            self._models = models
            topics = clients.wanted_topics(settings)
            await self._until_done("brokers", lambda: clients.check_topics(settings, topics), UnreachableError)
            await self._until_done("brokers", lambda: clients.check_group(settings), UnreachableError)
            if self._stop.is_set():
                return True
            sink = Sink(partial(clients.producer, settings), settings.sink, self.metrics, log)
            await self._until_done("brokers", sink.start, clients.NOT_YET)
            if settings.feature_log.share:
                # Of its own: answers do not queue behind it on their way to a broker.
                log_sink = Sink(partial(clients.producer, settings), settings.sink, self.metrics, log)
                await self._until_done("brokers", log_sink.start, clients.NOT_YET)
            feature_log = FeatureLog(
                (log_sink or sink).feature_log, settings.feature_log, metrics=self.metrics, log=log
            )
            offsets = OffsetTracker()
            if settings.delivery.guarantee == "exactly_once":
                transactions = self._transactions(offsets)
            source = self._source(offsets, transactions)
            await self._until_done("brokers", source.start, clients.NOT_YET)
            return await self._work(
                source, models, predictor, sink, feature_log, answers=transactions or sink, cache=cache
            )
        except* FencedError as fenced:
            # Several partitions may find it at once; one line says it.
            log.error(  # noqa: TRY400  a zombie needs no traceback
                "fenced, this worker stops", error=str(_first(fenced))
            )
        finally:
            if source is not None:
                await self._in_time("consumer", source.stop())
            if transactions is not None:
                await self._in_time("transactions", transactions.stop())
            for producing in (sink, log_sink):
                if producing is not None:
                    await self._in_time("producer", producing.stop())
            await predictor.close()
        return False

    def _transactions(self, offsets: OffsetTracker) -> Transactions:
        settings = self.settings

        async def committed(partition: Partition) -> int | None:
            found = await clients.commits_of(settings, [partition])
            return found[partition][0] if partition in found else None

        return Transactions(
            partial(clients.transactional_producer, settings),
            committed,
            offsets,
            group_id=settings.kafka.group_id,
            sink=settings.sink,
            settings=settings.delivery,
            metrics=self.metrics,
            log=self._log,
        )

    def _source(self, offsets: OffsetTracker, transactions: Transactions | None) -> Source:
        settings = self.settings
        consumer = clients.consumer(settings)
        delivery = Delivery(
            consumer,
            offsets,
            transactions,
            lambda partitions: clients.commits_of(settings, partitions),
            settings,
            metrics=self.metrics,
            log=self._log,
        )
        return Source(
            consumer,
            offsets,
            delivery,
            settings.source,
            metrics=self.metrics,
            log=self._log,
            revoke_s=settings.service.drain_ms / 1e3,
            max_uncommitted=settings.offsets.max_uncommitted_records,
            clock=self._clock,
        )

    async def _work(
        self,
        source: Source,
        models: Models,
        predictor: Predictor,
        sink: Sink,
        feature_log: FeatureLog,
        *,
        answers: Answers,
        cache: ScoreCache | None,
    ) -> bool:
        settings = self.settings
        async with asyncio.TaskGroup() as tasks:

            def spawn(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
                return tasks.create_task(work, name=name)

            calls = Calls(
                predictor,
                models,
                poll_s=settings.predictor.poll_interval_ms / 1e3,
                clock=self._clock,
                log=self._log,
            )
            dispatcher = Dispatcher(settings.batching, calls.predict, spawn, self._clock, self.metrics)
            scores = Scores(
                cache,
                dispatcher,
                self.metrics,
                self._clock,
                HitRatio(settings.cache.min_hit_ratio),
            )
            shadow = Shadow(
                models,
                predictor,
                sink,
                settings.shadow,
                metrics=self.metrics,
                log=self._log,
                is_busy=lambda: dispatcher.queue.queued_rows > 0,
            )
            pipeline = Pipeline(
                source,
                models,
                scores,
                answers,
                shadow,
                feature_log,
                self.metrics,
                self._log,
                self._clock,
                settings.source.max_budget_ms,
            )
            reading = spawn(self._read(source, pipeline, spawn), "read")
            side = [
                spawn(self._commit_when_due(source), "commit"),
                spawn(calls.watch(), "models"),
                spawn(self._measure_loop(), "loop delay"),
                spawn(shadow.run(), "shadow"),
                spawn(feature_log.run(), "feature log"),
            ]
            self.state, self._why_not = "RUNNING", None
            self._log.info("running", topic=settings.source.topic, group=settings.kafka.group_id)
            await self._stop.wait()

            self.state, self._why_not = "DRAINING", "draining"
            deadline = Deadline.after(self._clock(), settings.service.drain_ms)
            source.close()
            dispatcher.drain()
            await asyncio.wait([reading], timeout=deadline.remaining(self._clock()))
            reading.cancel()
            all_answered = await source.join(deadline)
            for task in side:
                task.cancel()
            left = source.in_flight
            await self._in_time("group", source.leave())
            if not all_answered:
                self._log.error("drained in part, the rest will be read again", in_flight=left)
            # Also where all is answered: records of partitions that were taken away are not counted any more, and are
            # sent until they are taken.
            for task in asyncio.all_tasks():
                if task.get_name() in {"record", "batch"}:
                    task.cancel()
            return all_answered

    async def _read(
        self, source: Source, pipeline: Pipeline, spawn: Callable[[Coroutine[Any, Any, None], str], object]
    ) -> None:
        async for chunk in source.chunks():
            for record in chunk:
                spawn(pipeline.answer(record), "record")

    @staticmethod
    async def _commit_when_due(source: Source) -> None:
        while True:
            await source.commit_when_due()
            source.measure_lag()

    async def _measure_loop(self) -> None:
        while True:
            due = self._clock() + _LOOP_PROBE_S
            await asyncio.sleep(_LOOP_PROBE_S)
            self.metrics.loop_delay.observe(max(0.0, self._clock() - due))

    async def _in_time(self, what: str, leaving: Coroutine[Any, Any, None]) -> None:
        """Waits for something that brokers must answer, but not for ever."""
        self._leave_by = self._leave_by or Deadline.after(self._clock(), _LEAVE_MS)
        task = asyncio.create_task(leaving, name=what)
        await asyncio.wait([task], timeout=max(_AT_LEAST_S, self._leave_by.remaining(self._clock())))
        if not task.done():
            task.cancel()
            self._log.warning("the brokers do not answer, left without them", left=what)
        elif not task.cancelled():  # a client that is stopped in the middle of its work may cancel who stops it
            task.result()

    async def _until_done(
        self,
        what: str,
        attempt: Callable[[], Awaitable[_T]],
        not_yet: type[Exception] | tuple[type[Exception], ...],
    ) -> _T | None:
        """Attempts until it works or the worker is told to stop; says what it waits for."""
        while not self._stop.is_set():
            try:
                return await self._unless_stopped(attempt())
            except not_yet as error:
                self._why_not = f"waiting for the {what}: {error}"
                self._log.warning(f"waiting for the {what}", error=str(error))
            await set_within(self._stop, _START_RETRY_S)
        return None

    async def _unless_stopped(self, attempt: Awaitable[_T]) -> _T | None:
        """Breaks off what may never end: a client tries by itself to join a group for as long as that takes."""
        attempting = asyncio.ensure_future(attempt)
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            await asyncio.wait([attempting, stopping], return_when=asyncio.FIRST_COMPLETED)
            if attempting.done():
                return attempting.result()
            attempting.cancel()
            await asyncio.wait([attempting], timeout=_AT_LEAST_S)
            return None
        finally:
            stopping.cancel()
            attempting.cancel()


def _first(group: BaseExceptionGroup[FencedError]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
