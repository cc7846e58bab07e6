"""The life cycle of a process that answers requests over HTTP, without Kafka."""

from collections.abc import Sequence
from contextlib import AsyncExitStack

from structlog.typing import FilteringBoundLogger

from streamer.assembly import Assembly, Scorer
from streamer.deadline import Deadline
from streamer.errors import PredictError, UnreachableError
from streamer.http.endpoint import Endpoint
from streamer.http.exchange import Exchange
from streamer.lifecycle import Lifecycle
from streamer.metrics import Metrics
from streamer.settings import Settings
from streamer.settings.sections import FeatureLogSettings
from streamer.tasks import TaskOwner, probe_loop
from streamer.types import Header


class HttpService:
    """Answers requests until SIGTERM or SIGINT, then those in flight.

    A drain accepts no more requests and closes idle connections. A second signal ends the process at once. Without
    Kafka a shadow version scores for its metrics only, and no rows are logged.
    """

    def __init__(self, settings: Settings, log: FilteringBoundLogger) -> None:
        if settings.feature_log.share:
            log.warning("feature_log.share: serve-http has no topic for rows, nothing is logged")
            settings = settings.model_copy(update={"feature_log": FeatureLogSettings()})
        self.settings = settings
        self.metrics = Metrics()
        self.life = Lifecycle(settings, self.metrics, log)
        self._log = log
        self._clock = self.life.clock
        self._tasks = TaskOwner()
        self.assembly = Assembly(settings, self.metrics, log, self._clock, self._tasks.spawn)

    async def run(self) -> bool:
        """Starts, serves and drains; returns whether every request in flight was answered in time.

        Raises:
            ConfigError: a port is in use, or a TLS file cannot be read.
        """
        async with self.life.running(), AsyncExitStack() as stack:
            return await self._serve(stack)

    async def _serve(self, stack: AsyncExitStack) -> bool:
        assembly = self.assembly
        tracing, schemas = assembly.tracing(), assembly.schemas()
        if schemas is not None:
            stack.push_async_callback(schemas.close)
        predictor, cache = assembly.predictor(), assembly.cache()
        stack.push_async_callback(predictor.close)
        tables = await self.life.follow(assembly.ad_tables(), stack)
        models = assembly.models(predictor.control, cache, tables)
        await self.life.until_done("model server", models.refresh, PredictError)
        if schemas is not None:
            await self.life.until_done("schema registry", schemas.check, UnreachableError)
        if self.life.stopping.is_set():
            return True
        self.life.models = models
        nowhere = Exchange()
        scorer = assembly.scorer(
            nowhere,
            predictor,
            nowhere,
            models=models,
            cache=cache,
            publish_shadow=_discard,
            publish_rows=_discard,
            tracing=tracing,
            schemas=schemas,
        )
        endpoint = assembly.endpoint(scorer.pipeline)
        stack.push_async_callback(endpoint.stop)
        await endpoint.start()
        return await self.work(endpoint, scorer)

    async def work(self, endpoint: Endpoint, scorer: Scorer) -> bool:
        """Answers requests until `life.stopping`, then drains; returns whether all were answered."""
        async with self._tasks.running() as tasks:
            tasks.spawn(scorer.models.poll(), "models")
            tasks.spawn(probe_loop(self._clock, self.metrics.loop_delay.observe), "loop delay")
            tasks.spawn(self.life.handlers.watch(), "status history")
            for output in scorer.side_outputs:
                tasks.spawn(output.run(), "side output")
            self.life.outages = [scorer.models.outage]
            endpoint.open()
            self.life.enter("RUNNING")
            await self.life.stopping.wait()

            self.life.enter("DRAINING")
            deadline = Deadline.after(self._clock(), self.settings.service.drain_ms)
            await endpoint.close()
            scorer.dispatcher.drain()
            all_answered = await endpoint.join(deadline)
            await endpoint.stop()
            if scorer.tracing is not None:
                await scorer.tracing.export.stop(deadline)
            tasks.cancel()
            return all_answered


async def _discard(key: bytes | None, value: bytes, headers: Sequence[Header] = ()) -> None:
    """No topic takes it."""
