"""What `check-config --live` and `doctor` read of a registry, and what they find."""

from typing import Any

import pytest

from streamer.diagnosis.registry import registry_findings
from streamer.errors import UnreachableError
from streamer.schema_registry.facts import subject_facts
from streamer.settings import Settings
from streamer.testing.virtual_loop import virtual
from tests.streamer.formats.test_compatibility import TEXT
from tests.streamer.schema_registry.fakes import FakeRegistry
from tests.streamer.schema_registry.test_schemas import ANSWERS, MOVED, REASON, REQUESTS

BINARY = {"sink": {"answers": "as_requested"}}
NOTHING_REGISTERED: dict[str, Any] = {**BINARY, "registry": {"url": "http://here", "register_answers": False}}


async def findings(client: FakeRegistry, **sections: Any) -> list[str]:
    settings = Settings.model_validate({"registry": {"url": "http://here"}, **sections})
    registered = dict(client.by_subject)
    subjects = await subject_facts(settings, client)
    assert client.by_subject == registered, "a check registers nothing"
    assert client.down, "the client is closed"
    return [f"{f.severity}: {f.subject}: {f.reason}; {f.remedy}" for f in registry_findings(subjects)]


@virtual
async def test_subjects_that_fit_or_come_later_have_no_finding() -> None:
    registry = FakeRegistry()
    assert await findings(registry, **BINARY) == []
    registry.down = False
    for subject in (REQUESTS, ANSWERS):
        registry.add(subject, TEXT)
    assert await findings(registry, **NOTHING_REGISTERED) == []


@virtual
async def test_a_schema_that_does_not_fit_is_named_with_its_field() -> None:
    registry = FakeRegistry()
    registry.add(REQUESTS, TEXT)
    registry.add(REQUESTS, MOVED)
    (line,) = await findings(registry)
    assert line.startswith(f"error: schema registry, subject {REQUESTS}: version 2 does not fit: {REASON}; register ")


@virtual
async def test_an_unreadable_schema_does_not_fit() -> None:
    for kind, text in (("AVRO", "{}"), ("PROTOBUF", "message {")):
        registry = FakeRegistry()
        registry.add(ANSWERS, text, kind)
        (line,) = await findings(registry, **BINARY)
        assert line.startswith(f"error: schema registry, subject {ANSWERS}: version 1 does not fit: ")


@virtual
async def test_a_subject_that_nobody_registers_is_an_error() -> None:
    (line,) = await findings(FakeRegistry(), **NOTHING_REGISTERED)
    assert line == (
        f"error: schema registry, subject {ANSWERS}: it is not registered: binary answers have no schema;"
        " register ctr.proto there, or set registry.register_answers"
    )


@virtual
async def test_a_registry_that_does_not_answer_is_an_error_and_its_client_is_closed() -> None:
    registry = FakeRegistry()
    registry.down = True
    with pytest.raises(UnreachableError):
        await findings(registry)
