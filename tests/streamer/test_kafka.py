"""What the brokers' answers are taken for."""

from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import CoordinatorLoadInProgressError, KafkaError
from aiokafka.protocol.commit import OffsetFetchResponse_v3

from streamer import kafka
from streamer.settings import Settings

NO_ERROR = 0


def answered_by(monkeypatch: pytest.MonkeyPatch, answer: OffsetFetchResponse_v3) -> None:
    """The brokers give this answer to whoever asks for committed offsets."""

    class Admin(AIOKafkaAdminClient):  # type: ignore[misc]
        async def start(self) -> None: ...

        async def find_coordinator(self, group_id: str, coordinator_type: int = 0) -> int:
            return 0

        async def _send_request(self, request: Any, node_id: int | None = None) -> OffsetFetchResponse_v3:
            return answer

    monkeypatch.setattr(kafka, "AIOKafkaAdminClient", Admin)


async def test_commits_are_those_of_partitions_that_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [("t", [(0, 17, "mark", NO_ERROR), (1, -1, "", NO_ERROR)])]
    answered_by(monkeypatch, OffsetFetchResponse_v3(0, found, NO_ERROR))
    assert await kafka.commits_of(Settings(), [("t", 0), ("t", 1)]) == {("t", 0): (17, "mark")}


async def test_a_coordinator_that_cannot_say_is_not_taken_for_a_group_without_commits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that still loads its group names no partition; its partitions would begin anew, and their commits be lost."""
    answered_by(monkeypatch, OffsetFetchResponse_v3(0, [], CoordinatorLoadInProgressError.errno))
    with pytest.raises(KafkaError, match="t/0, t/1"):
        await kafka.commits_of(Settings(), [("t", 0), ("t", 1)])
