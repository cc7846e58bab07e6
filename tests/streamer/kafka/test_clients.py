"""What the brokers' answers are taken for."""

import asyncio
from typing import Any

import pytest
import uvloop
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import create_conn
from aiokafka.errors import CoordinatorLoadInProgressError, KafkaConnectionError, KafkaError
from aiokafka.protocol.commit import OffsetFetchResponse_v3
from aiokafka.protocol.metadata import MetadataRequest

from sandbox.broker.kafka import KafkaBroker
from streamer.kafka import clients
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

    monkeypatch.setattr(clients, "AIOKafkaAdminClient", Admin)


async def test_commits_are_those_of_partitions_that_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [("t", [(0, 17, "mark", NO_ERROR), (1, -1, "", NO_ERROR)])]
    answered_by(monkeypatch, OffsetFetchResponse_v3(0, found, NO_ERROR))
    assert await clients.commits_of(Settings(), [("t", 0), ("t", 1)]) == {("t", 0): (17, "mark")}


async def test_a_coordinator_that_cannot_say_is_not_taken_for_a_group_without_commits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that still loads its group names no partition; its partitions would begin anew, and their commits be lost."""
    answered_by(monkeypatch, OffsetFetchResponse_v3(0, [], CoordinatorLoadInProgressError.errno))
    with pytest.raises(KafkaError, match="t/0, t/1"):
        await clients.commits_of(Settings(), [("t", 0), ("t", 1)])


@pytest.mark.kafka
def test_to_write_where_the_connection_has_just_gone_is_an_error_of_the_connection(kafka: KafkaBroker) -> None:
    """Not a bug of the client, whose tasks would die of it: none of them is ever begun again."""

    async def write() -> None:
        host, port = kafka.bootstrap_servers.split(":")
        connection = await create_conn(host, int(port), request_timeout_ms=60_000)
        connection._writer.transport.abort()  # noqa: SLF001  as when the broker dies
        await asyncio.sleep(0)  # it has gone, and the client has not been told
        await connection.send(MetadataRequest([]))

    with pytest.raises(KafkaConnectionError):
        uvloop.run(write())
