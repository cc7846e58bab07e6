"""The patches correct their fault, and are for the installed version of aiokafka."""

import asyncio
import socket
from importlib.metadata import version

import pytest
import uvloop
from aiokafka.conn import create_conn
from aiokafka.consumer import consumer
from aiokafka.errors import KafkaConnectionError
from aiokafka.producer import producer
from aiokafka.protocol.metadata import MetadataRequest

from sandbox.broker.kafka import KafkaBroker
from streamer.kafka import aiokafka_client, aiokafka_patches
from streamer.kafka.aiokafka_client import Client
from streamer.kafka.aiokafka_coordinator import MemberCoordinator


def test_the_patches_are_for_the_installed_minor_version() -> None:
    installed = version("aiokafka")
    assert installed.split(".")[:2] == aiokafka_patches.AIOKAFKA_VERSION.split("."), (
        f"aiokafka {installed}: is each fault in aiokafka_patches.py and aiokafka_coordinator.py still there?"
    )


@pytest.mark.kafka
def test_a_write_to_a_closed_transport_is_a_connection_error(kafka: KafkaBroker) -> None:
    """A RuntimeError instead would end aiokafka's background tasks, which nothing restarts."""

    async def write() -> None:
        host, port = kafka.bootstrap_servers.split(":")
        connection = await create_conn(host, int(port), request_timeout_ms=60_000)
        connection._writer.transport.abort()  # noqa: SLF001  as when the broker dies
        await asyncio.sleep(0)  # the transport is closed, and aiokafka has not been told
        await connection.send(MetadataRequest([]))

    aiokafka_patches.apply()
    with pytest.raises(KafkaConnectionError):
        uvloop.run(write())


def test_all_consumers_use_the_corrected_coordinator() -> None:
    aiokafka_patches.apply()
    assert consumer.GroupCoordinator is MemberCoordinator


@pytest.mark.kafka
async def test_brokers_that_have_moved_are_found_by_the_bootstrap_addresses(kafka: KafkaBroker) -> None:
    """aiokafka asks these addresses once; a new pod behind the same name would never be found."""
    client = Client(bootstrap_servers=kafka.bootstrap_servers, request_timeout_ms=60_000)
    await client.bootstrap()
    try:
        (known,) = client.cluster.brokers()
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        client.cluster._brokers = {known.nodeId: known._replace(port=port)}  # noqa: SLF001  as before a move
        assert await client.force_metadata_update()
        assert client.cluster.brokers() == {known}
        assert await client.ready(known.nodeId)
    finally:
        await client.close()
    aiokafka_client.apply()
    assert {consumer.AIOKafkaClient, producer.AIOKafkaClient} == {Client}
