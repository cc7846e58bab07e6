"""Reads the facts about a registry's subjects that `streamer.diagnosis` checks."""

from streamer.diagnosis.facts import SubjectFacts
from streamer.formats.compatibility import incompatible_request
from streamer.schema_registry.schemas import Fault, Registry, compared, incompatible_answer, subject_of
from streamer.settings import Settings


async def subject_facts(settings: Settings, registry: Registry | None = None) -> dict[str, SubjectFacts]:
    """The subjects that the scorer uses, by name. Registers nothing.

    `registry` is that of the settings by default; it is closed.

    Raises:
        UnreachableError: the registry does not answer.
        ConfigError: the registry rejects the call, or a file of the settings cannot be read.
    """
    if registry is None:
        # Only here: without a registry its client need not be installed.
        from streamer.schema_registry.client import ConfluentRegistry  # noqa: PLC0415

        registry = ConfluentRegistry(settings.registry)
    try:
        requests, answers = subject_of(settings.source.topic), subject_of(settings.sink.topic)
        found = {requests: await _facts(registry, requests, incompatible_request, is_registered_later=True)}
        if settings.sink.answers == "as_requested":
            registers = settings.registry.register_answers
            found[answers] = await _facts(registry, answers, incompatible_answer, is_registered_later=registers)
        return found
    finally:
        await registry.close()


async def _facts(registry: Registry, subject: str, fault: Fault, *, is_registered_later: bool) -> SubjectFacts:
    newest = await registry.latest(subject)
    if newest is None:
        return SubjectFacts(None, None, is_registered_later)
    return SubjectFacts(newest.version, compared(newest, fault)[1], is_registered_later)
