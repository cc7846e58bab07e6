"""Checks the schemas of requests, and finds that of the answers."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from structlog.typing import FilteringBoundLogger

from streamer.errors import ConfigError
from streamer.formats.compatibility import ANSWER, incompatible, incompatible_request
from streamer.formats.frames import has_prefix, prefix, schema_id
from streamer.formats.proto_schema import OWN, ProtoSchema, own_schema, read_schema
from streamer.metrics import Metrics
from streamer.settings import Settings
from streamer.tasks import Spawn
from streamer.types import Record

MAX_IDS: Final = 256
_MAX_LOOKUPS: Final = 4
_LOOKUP_S: Final = 5.0
_RETRY_S: Final = 30.0

Outcome = Literal["compatible", "incompatible", "unknown", "failed"]
Fault = Callable[[ProtoSchema], str | None]
"""Why a schema does not fit; None if it does."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A registered schema.

    Attributes:
        version: that in its subject; None if it was found by its id.
        kind: `PROTOBUF`, `AVRO` or `JSON`.
    """

    id: int
    version: int | None
    kind: str
    text: str


class Registry(Protocol):
    """A client.

    Each method raises UnreachableError, or ConfigError if the registry rejects the call.
    """

    async def schema(self, number: int) -> Registered | None:
        """The schema with this id; None if there is none."""
        ...

    async def latest(self, subject: str) -> Registered | None:
        """The newest version of a subject; None if there is no such subject."""
        ...

    async def register(self, subject: str, text: str) -> int:
        """Registers a Protobuf schema, if it is not there yet; returns its id."""
        ...

    async def close(self) -> None: ...


class RegistrySchemas:
    """The schemas of a registry, as one process knows them.

    1. `rejection` never waits. A lookup runs beside the records, and decides about later ones.
    2. At most 256 ids are known, and at most 4 lookups run; there is one lookup of an id at a time.
    3. A lookup without a result is repeated after 30 s at the earliest.

    Attributes:
        answer_prefix: that of binary answers; empty if answers are JSON. `check` sets it.
    """

    def __init__(
        self,
        registry: Registry,
        settings: Settings,
        metrics: Metrics,
        log: FilteringBoundLogger,
        *,
        spawn: Spawn,
        clock: Callable[[], float],
    ) -> None:
        self.answer_prefix = b""
        self._registry = registry
        self._settings = settings
        self._metrics = metrics
        self._log = log
        self._spawn = spawn
        self._clock = clock
        self._reasons: dict[int, str | None] = {}
        self._retry_at: dict[int, float] = {}
        self._looked_up: set[int] = set()

    def rejection(self, record: Record) -> str | None:
        """Why a record cannot be read by its schema; None if it can, or is not known yet."""
        value = record.value
        if not has_prefix(value, record.headers):
            return None
        number = schema_id(value)
        if number not in self._reasons:
            self._look_up(number)
            return None
        reason = self._reasons[number]
        if reason is not None:
            self._metrics.schema_rejections.inc()
        elif number in self._retry_at and self._clock() >= self._retry_at[number]:
            self._look_up(number)
        return reason

    async def check(self) -> None:
        """Compares the schemas of both subjects with the own one; finds the answers' id.

        Raises:
            UnreachableError: the registry does not answer.
            ConfigError: a schema does not fit, or that of the answers is missing.
        """
        await self._fitting(subject_of(self._settings.source.topic), incompatible_request)
        if self._settings.sink.answers == "as_requested":
            self.answer_prefix = await self._find_answer()

    async def close(self) -> None:
        """Disconnects."""
        await self._registry.close()

    async def _find_answer(self) -> bytes:
        subject = subject_of(self._settings.sink.topic)
        found = await self._fitting(subject, incompatible_answer)
        if self._settings.registry.register_answers:
            number, schema = await self._registry.register(subject, OWN), own_schema()
        elif found is not None:
            number, schema = found
        else:
            raise ConfigError(
                f"schema registry: subject {subject!r} is missing: register ctr.proto, or set registry.register_answers"
            )
        place = schema.place(ANSWER)
        assert place is not None, "a compatible schema has the message"
        self._log.info("schema of the answers", subject=subject, schema_id=number)
        return prefix(number, place)

    async def _fitting(self, subject: str, fault: Fault) -> tuple[int, ProtoSchema] | None:
        """The newest schema of a subject, which fits; None if there is none."""
        found = await self._registry.latest(subject)
        if found is None:
            return None
        schema, reason = compared(found, fault)
        if reason is not None:
            raise ConfigError(f"schema registry: subject {subject!r} version {found.version}: {reason}")
        return found.id, schema

    def _look_up(self, number: int) -> None:
        if number in self._looked_up or len(self._looked_up) >= _MAX_LOOKUPS:
            return
        self._looked_up.add(number)
        self._spawn(self._decide(number), "schema")

    async def _decide(self, number: int) -> None:
        try:
            outcome, reason = await self._outcome(number)
        finally:
            self._looked_up.discard(number)
        self._metrics.schema_lookups.labels(outcome).inc()
        self._retry_at.pop(number, None)
        if number not in self._reasons and len(self._reasons) >= MAX_IDS:
            oldest = next(iter(self._reasons))
            del self._reasons[oldest]
            self._retry_at.pop(oldest, None)
        self._reasons[number] = f"record: schema {number}: {reason}" if outcome == "incompatible" else None
        if outcome in ("unknown", "failed"):
            self._retry_at[number] = self._clock() + _RETRY_S
        if outcome != "compatible":
            self._log.warning("schema of requests", schema_id=number, outcome=outcome, reason=reason)

    async def _outcome(self, number: int) -> tuple[Outcome, str | None]:
        try:
            async with asyncio.timeout(_LOOKUP_S):
                found = await self._registry.schema(number)
            if found is None:
                return "unknown", "the registry has no such schema; records are read without its check"
            _, reason = compared(found, incompatible_request)
        except TimeoutError:
            return "failed", "no answer in time"
        except Exception as error:  # noqa: BLE001  an error of any class would end the owner's other tasks
            return "failed", str(error) or repr(error)
        return ("compatible" if reason is None else "incompatible"), reason


def schemas_of(
    settings: Settings, metrics: Metrics, log: FilteringBoundLogger, *, spawn: Spawn, clock: Callable[[], float]
) -> RegistrySchemas | None:
    """The schemas of the settings' registry, not checked; None if they name none.

    Raises:
        ConfigError: a file of the settings cannot be read.
    """
    if settings.registry.url is None:
        return None
    # Only here: without a registry its client need not be installed.
    from streamer.schema_registry.client import ConfluentRegistry  # noqa: PLC0415

    return RegistrySchemas(ConfluentRegistry(settings.registry), settings, metrics, log, spawn=spawn, clock=clock)


def subject_of(topic: str) -> str:
    """The subject of a topic's values, by the default of serialisers."""
    return f"{topic}-value"


def incompatible_answer(schema: ProtoSchema) -> str | None:
    """Why answers do not fit a schema; None if they do."""
    return incompatible(ANSWER, schema)


def compared(found: Registered, fault: Fault) -> tuple[ProtoSchema, str | None]:
    """A registered schema, and why it does not fit; an unreadable one is empty."""
    if found.kind != "PROTOBUF":
        return ProtoSchema(), f"expected PROTOBUF, got {found.kind!r:.40}"
    try:
        schema = read_schema(found.text)
        return schema, fault(schema)
    except ValueError as error:
        return ProtoSchema(), str(error)
