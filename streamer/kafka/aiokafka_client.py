"""A connection manager for aiokafka that returns to the bootstrap addresses.

aiokafka 0.14 asks them once, at the start. If all brokers have moved to other addresses, for example those of new
pods behind the same name, it tries only the old addresses.
"""

import logging
from collections.abc import Collection
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.consumer import consumer
from aiokafka.errors import KafkaError
from aiokafka.producer import producer
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.structs import BrokerMetadata

_log = logging.getLogger("aiokafka.client")


class Client(AIOKafkaClient):  # type: ignore[misc]  # aiokafka has no types
    """Asks the bootstrap addresses when no known broker answers."""

    async def _metadata_update(self, cluster_metadata: Any, topics: Collection[str] | None) -> bool:
        if await super()._metadata_update(cluster_metadata, topics):
            return True
        tried = {(broker.host, broker.port) for broker in self.cluster.brokers()}
        for host, port, _ in self.hosts:
            if (host, port) in tried:
                continue
            node = f"{host}:{port}"
            self.cluster._bootstrap_brokers = {node: BrokerMetadata(node, host, port, None)}  # noqa: SLF001
            connection = await self._get_conn(node)
            if connection is None:
                continue
            try:
                metadata = await connection.send(MetadataRequest(list(topics) if topics else None))
            except (KafkaError, TimeoutError) as error:
                _log.warning("no metadata from %s: %r", node, error)
                continue
            finally:
                connection.close()
            if metadata.brokers:
                cluster_metadata.update_metadata(metadata)
                return True
        return False


def apply() -> None:
    """Makes all later consumers and producers use this class; aiokafka has no setting for this."""
    consumer.AIOKafkaClient = Client
    producer.AIOKafkaClient = Client
