"""The group's commits, as different answers of a coordinator give them."""

from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import CoordinatorLoadInProgressError, KafkaError
from aiokafka.protocol.commit import OffsetFetchResponse_v3

from streamer.kafka import clients, groups
from streamer.settings import Settings

NO_ERROR = 0


def answer_with(monkeypatch: pytest.MonkeyPatch, answer: OffsetFetchResponse_v3) -> None:
    """The coordinator gives this answer to every request for committed offsets."""

    class Admin(AIOKafkaAdminClient):  # type: ignore[misc]
        async def start(self) -> None: ...

        async def find_coordinator(self, group_id: str, coordinator_type: int = 0) -> int:
            return 0

        async def _send_request(self, request: Any, node_id: int | None = None) -> OffsetFetchResponse_v3:
            return answer

    monkeypatch.setattr(clients, "AIOKafkaAdminClient", Admin)


async def test_partitions_without_a_commit_are_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [("t", [(0, 17, "mark", NO_ERROR), (1, -1, "", NO_ERROR)])]
    answer_with(monkeypatch, OffsetFetchResponse_v3(0, found, NO_ERROR))
    assert await groups.commits_of(Settings(), [("t", 0), ("t", 1)]) == {("t", 0): (17, "mark")}


async def test_a_coordinator_that_cannot_answer_does_not_count_as_a_group_without_commits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A coordinator that still loads the group names no partition."""
    answer_with(monkeypatch, OffsetFetchResponse_v3(0, [], CoordinatorLoadInProgressError.errno))
    with pytest.raises(KafkaError, match="t/0, t/1"):
        await groups.commits_of(Settings(), [("t", 0), ("t", 1)])
