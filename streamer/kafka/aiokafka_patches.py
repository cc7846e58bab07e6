"""Patches of aiokafka. Each names its fault and the version that it was written for.

Fault: https://github.com/aio-libs/aiokafka/issues/1038 (open). `AIOKafkaConnection.send` treats only an OSError of
`write` as a lost connection. uvloop raises a RuntimeError after it has closed the transport, until it has called
`connection_lost`. aiokafka's background task for fetches or for metadata then dies, and nothing restarts it.

The faults of the group membership are in `aiokafka_coordinator`.
"""

from typing import Any

from aiokafka import conn
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.consumer import consumer
from aiokafka.errors import KafkaConnectionError

from streamer.kafka.aiokafka_coordinator import MemberCoordinator

AIOKAFKA_VERSION = "0.14"
"""A test fails when another minor version is installed: check the faults again, then raise or remove this."""


class _Connection(AIOKafkaConnection):  # type: ignore[misc]  # aiokafka has no types
    """A connection that reports a RuntimeError of `write` as a lost connection."""

    def send(self, request: Any, expect_response: bool = True) -> Any:
        try:
            return super().send(request, expect_response)
        except RuntimeError as error:
            self.close(reason=CloseReason.CONNECTION_BROKEN, exc=error)
            raise KafkaConnectionError(f"connection to {self.host}:{self.port} is lost: {error}") from error


def apply() -> None:
    """Makes aiokafka use these classes for all later clients; it has no setting for this."""
    conn.AIOKafkaConnection = _Connection
    consumer.GroupCoordinator = MemberCoordinator
