"""Connects the stages. The service, the tests and the benchmarks build their parts here."""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from structlog.typing import FilteringBoundLogger

from streamer.ads import RowForm
from streamer.errors import ConfigError
from streamer.http.endpoint import Endpoint
from streamer.http.exchange import Exchange
from streamer.in_flight import Answers, Records, Schemas
from streamer.kafka import clients, groups
from streamer.kafka.ads_log import AdsLog
from streamer.kafka.backlog import Backlog
from streamer.kafka.backpressure import Backpressure
from streamer.kafka.delivery import Delivery
from streamer.kafka.lag import Lag
from streamer.kafka.late_sink import LateSink
from streamer.kafka.offsets import OffsetTracker
from streamer.kafka.opening import CommitsOf, TopicNow, no_topic_id
from streamer.kafka.partition_transactions import TransactionContext
from streamer.kafka.positions import Positions
from streamer.kafka.receipt import WALL_CLOCK, Receipt
from streamer.kafka.sink import Sink
from streamer.kafka.source import Source
from streamer.kafka.split_offsets import SplitOffsets
from streamer.kafka.topic_ids import topic_now
from streamer.kafka.transactions import Transactions
from streamer.metrics import Metrics
from streamer.pipeline import Pipeline
from streamer.rollout.controller import ModelController
from streamer.rollout.registry import ModelRegistry
from streamer.rollout.reporting_scorer import ReportingScorer, ScoresRows
from streamer.rollout.version_labels import ModelServers
from streamer.schema_registry.schemas import RegistrySchemas, schemas_of
from streamer.scoring.cache import ScoreCache
from streamer.scoring.dispatcher import Concurrency, Dispatcher, Predict
from streamer.scoring.scores import HitRatio, Scores
from streamer.serving.predictor import Predictor
from streamer.serving.replicas import Replicas
from streamer.serving.verification import DescribesVersions
from streamer.serving.warmup import OpensTables, Preparer
from streamer.settings import Settings
from streamer.side_outputs.feature_log import FeatureLog
from streamer.side_outputs.feature_log import Publish as PublishRows
from streamer.side_outputs.shadow import Publish as PublishShadow
from streamer.side_outputs.shadow import Shadow
from streamer.side_outputs.side_output import SideOutput
from streamer.tables.ad_tables import AdTables
from streamer.tables.follower import Follower, SendLetter
from streamer.tables.store import AdStore
from streamer.tables.table import Table
from streamer.tasks import Spawn, TaskOwner
from streamer.tracing.export_thread import Tracing, traced
from streamer.types import F32, BatchInputs, DeadLetter, ModelVersion, Partition, Record, ScoreMessage

# A version that an operator wants may be asked for by hand, again and again, until its table is loaded.
_TABLE_KEPT_S = 60.0


class ControlServers(ModelServers, DescribesVersions, Protocol):
    """Model servers that tell of their versions: `Predictor.control`, or a fake."""


class ScoringServers(ScoresRows, Concurrency, Protocol):
    """Model servers that score: `Predictor`, or a fake."""

    async def score_shadow(self, version: ModelVersion, inputs: BatchInputs, seconds: float) -> F32: ...


@dataclass(frozen=True, slots=True)
class Scorer:
    """The stages between a source and a sink."""

    models: ModelRegistry
    dispatcher: Dispatcher
    pipeline: Pipeline
    side_outputs: tuple[SideOutput, ...]
    tracing: Tracing | None


@dataclass(frozen=True, slots=True)
class Assembly:
    """Builds the parts of one worker from the values that all parts share.

    Attributes:
        clock: monotonic seconds.
        spawn: starts a task by a name; the owner of the tasks ends it.
    """

    settings: Settings
    metrics: Metrics
    log: FilteringBoundLogger
    clock: Callable[[], float]
    spawn: Spawn

    def predictor(self) -> Predictor:
        """The client of the model servers."""
        replicas = Replicas(self.settings.predictor, self.settings.batching.max_concurrent_calls)
        return Predictor(self.settings.predictor, self.metrics, self.clock, self.log, replicas=replicas)

    def cache(self) -> ScoreCache | None:
        """The score cache; None if `cache.enabled` is false.

        Raises:
            ConfigError: this machine cannot have so much memory.
        """
        if not self.settings.cache.enabled:
            return None
        try:
            return ScoreCache(self.settings.cache)
        except (MemoryError, ValueError) as error:
            raise ConfigError(f"cache.max_bytes: {error}") from error

    def ad_tables(self) -> AdTables | None:
        """The tables of ads, not running; None without `ads.topic`."""
        settings, topic = self.settings, self.settings.ads.topic
        if topic is None:
            return None
        tasks = TaskOwner()
        producer = partial(clients.producer, settings)
        letters = LateSink(Sink(producer, settings.sink, self.metrics, self.log, tasks.spawn))
        kept_s = max(_TABLE_KEPT_S, 3 * settings.predictor.poll_interval_ms / 1e3)
        new_table = partial(self._table, topic, letters.dead_letter)
        # Of each model the table of the version that serves, and that of an incoming or the previous one.
        most = 2 * len(settings.predictor.models)
        stop, log = letters.stop, self.log
        return AdTables(topic, new_table, stop, log, self.clock, most=most, kept_s=kept_s, tasks=tasks)

    def _table(self, topic: str, send: SendLetter, form: RowForm, spec: str) -> Table:
        settings, metrics, clock = self.settings, self.metrics.tables, self.clock
        log = self.log.bind(topic=topic, spec_hash=spec)
        ads = AdsLog(topic, partial(clients.ads_consumer, settings), topic_now, metrics, log, clock)
        follower = Follower(topic, form, ads, send, spec, metrics, log, clock, time.thread_time)

        def new_store(topic_id: str) -> AdStore:
            return AdStore(settings.ads.directory, form, topic, topic_id, settings.ads.max_bytes)

        return Table(ads, new_store, follower, spec, metrics, log, clock, WALL_CLOCK)

    def tracing(self) -> Tracing | None:
        """The traces of this process, whose thread runs; None if `tracing.enabled` is false.

        Raises:
            ConfigError: a variable of OpenTelemetry cannot be used.
        """
        settings = self.settings
        if not settings.tracing.enabled:
            return None
        # Only here: without traces no worker pays for OpenTelemetry's memory, nor needs it installed.
        from streamer.tracing.otlp import OtlpExporter  # noqa: PLC0415

        exporter = OtlpExporter(settings.tracing.endpoint, f"{socket.gethostname()}/{settings.kafka.client_id}")
        self.log.info("tracing", endpoint=exporter.endpoint, share=settings.tracing.share)
        tracing = traced(settings, exporter, self.metrics.spans, self.log, self.clock)
        tracing.export.start()
        return tracing

    def schemas(self) -> RegistrySchemas | None:
        """The schemas of a registry, not checked; None without `registry.url`."""
        return schemas_of(self.settings, self.metrics, self.log, spawn=self.spawn, clock=self.clock)

    def models(
        self, servers: ControlServers, cache: ScoreCache | None, tables: OpensTables | None = None
    ) -> ModelRegistry:
        """The models of the settings. `servers`: a `Predictor.control`, or a fake."""
        settings, metrics, log, clock = self.settings, self.metrics, self.log, self.clock
        models = [
            ModelController(name, servers, Preparer(servers, settings, tables), settings, cache, metrics, log, clock)
            for name in settings.predictor.models
        ]
        return ModelRegistry(models, poll_s=settings.predictor.poll_interval_ms / 1e3, log=log)

    def dispatcher(self, predict: Predict, concurrency: Concurrency) -> Dispatcher:
        """The batches of rows that `predict` scores."""
        return Dispatcher(
            self.settings.batching, predict, self.spawn, self.clock, self.metrics, concurrency=concurrency
        )

    def scores(self, dispatcher: Dispatcher, cache: ScoreCache | None) -> Scores:
        """The scores of requests: cached ones, and those of the dispatcher."""
        hit_ratio = HitRatio(self.settings.cache.min_hit_ratio)
        return Scores(cache, dispatcher, self.metrics, self.clock, hit_ratio, self.settings.ads.unknown == "prior")

    def scorer(
        self,
        source: Records,
        servers: ScoringServers,
        answers: Answers,
        *,
        models: ModelRegistry,
        cache: ScoreCache | None,
        publish_shadow: PublishShadow,
        publish_rows: PublishRows,
        tracing: Tracing | None = None,
        schemas: Schemas | None = None,
    ) -> Scorer:
        """All stages between `source` and `answers`.

        `models` and `cache` belong to the same model servers as `servers`.
        """
        settings, metrics, log = self.settings, self.metrics, self.log
        dispatcher = self.dispatcher(ReportingScorer(servers, models, self.clock, log).predict, servers)
        queue = dispatcher.queue
        shadow = SideOutput(settings.shadow, metrics.shadow, log, is_busy=lambda: queue.queued_rows > 0)
        feature_log = SideOutput(settings.feature_log, metrics.feature_log, log)
        pipeline = Pipeline(
            source,
            models,
            self.scores(dispatcher, cache),
            answers,
            Shadow(shadow, models.shadow_for, servers.score_shadow, publish_shadow, settings.ads.unknown == "prior"),
            FeatureLog(feature_log, publish_rows, settings.feature_log.share),
            metrics,
            log,
            self.clock,
            settings.sink.answers,
            settings.source.max_budget_ms,
            settings.ads.unknown,
            tracer=None if tracing is None else tracing.tracer,
            schemas=schemas,
        )
        return Scorer(models, dispatcher, pipeline, (shadow, feature_log), tracing)

    def endpoint(self, pipeline: Pipeline) -> Endpoint:
        """The HTTP endpoint, not started, for requests that take the stages of `pipeline`."""

        async def process(record: Record, exchange: Exchange) -> ScoreMessage | DeadLetter:
            return await replace(pipeline, source=exchange, answers=exchange).result(record)

        return Endpoint(self.settings, process, self.metrics, self.log, self.clock)

    def sink(self) -> Sink:
        """A producer of answers, not started."""
        return Sink(partial(clients.producer, self.settings), self.settings.sink, self.metrics, self.log, self.spawn)

    def transactions(self, offsets: OffsetTracker) -> Transactions:
        """The transactional producers of `exactly_once`."""
        settings = self.settings

        async def committed(partition: Partition) -> int | None:
            found = await groups.commits_of(settings, [partition])
            return found[partition][0] if partition in found else None

        context = TransactionContext(
            partial(clients.transactional_producer, settings),
            committed,
            offsets,
            group_id=settings.kafka.group_id,
            sink=settings.sink,
            settings=settings.delivery,
            metrics=self.metrics,
            log=self.log,
        )
        return Transactions(context)

    def source(
        self,
        consumer: Any,
        offsets: OffsetTracker,
        commits_of: CommitsOf,
        transactions: Transactions | None = None,
        *,
        topic_now: TopicNow = no_topic_id,
        wall_clock: Callable[[], float] = WALL_CLOCK,
        backlog_consumer: Callable[[], Any] | None = None,
    ) -> Source:
        """The source of records.

        `consumer`: aiokafka's, or that of `streamer.testing`. `backlog_consumer` makes a consumer without a group.
        `topic_now`: without it, a topic that is created again is not noticed.
        """
        settings, metrics, log = self.settings, self.metrics, self.log
        split = SplitOffsets(offsets)
        backlog = Backlog(consumer, settings, metrics, log, wall_clock)
        delivery = Delivery(consumer, split, backlog, transactions, commits_of, topic_now, settings, metrics, log)
        lag, drain_s = Lag(consumer, split, metrics, wall_clock), settings.service.drain_ms / 1e3
        return Source(
            consumer,
            split,
            delivery,
            Backpressure(offsets, settings.source, settings.offsets.max_uncommitted_records),
            lag,
            Positions(consumer, split, delivery, lag, log, self.clock, self.spawn, drain_s),
            settings.source,
            metrics,
            log,
            Receipt(split, settings.source, metrics, self.clock, wall_clock),
            self.clock,
            revoke_s=drain_s,
            new_backlog_consumer=backlog_consumer or partial(clients.backlog_consumer, settings),
        )
