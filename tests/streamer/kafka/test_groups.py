"""The group's commits, as different answers of a coordinator give them."""

import asyncio
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import CoordinatorLoadInProgressError, KafkaError
from aiokafka.protocol.commit import OffsetFetchResponse_v3
from aiokafka.protocol.coordination import FindCoordinatorRequest, FindCoordinatorResponse_v0
from aiokafka.structs import BrokerMetadata

from streamer.kafka import clients, groups
from streamer.settings import Settings

NO_ERROR = 0


def answer_with(monkeypatch: pytest.MonkeyPatch, answer: OffsetFetchResponse_v3, *, hang: bool = False) -> None:
    """The coordinator gives this answer to every request for committed offsets."""

    class Client:
        """Of three brokers; two can hang."""

        def __init__(self) -> None:
            self.cluster = self

        def brokers(self) -> set[BrokerMetadata]:
            return {BrokerMetadata(node, "host", 9092, None) for node in range(3)}

        async def send(self, node: int, request: Any) -> Any:
            if node and hang:
                await asyncio.Event().wait()
            assert isinstance(request, FindCoordinatorRequest)
            return FindCoordinatorResponse_v0(NO_ERROR, 0, "host", 9092)

        async def close(self) -> None: ...

    class Admin(AIOKafkaAdminClient):  # type: ignore[misc]
        async def start(self) -> None:
            self._client = Client()

        async def _send_request(self, request: Any, node_id: int | None = None) -> OffsetFetchResponse_v3:
            return answer

    monkeypatch.setattr(clients, "AIOKafkaAdminClient", Admin)


async def test_brokers_that_hang_delay_the_commits_by_one_try_each(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, OffsetFetchResponse_v3(0, [("t", [(0, 17, "mark", NO_ERROR)])], NO_ERROR), hang=True)
    async with asyncio.timeout(10.0):  # less than the request timeout
        for _ in range(9):
            assert await groups.commits_of(Settings(), [("t", 0)], 0.01) == {("t", 0): (17, "mark")}


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
