"""Moves the leaders of partitions between the nodes of a cluster."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import for_code
from aiokafka.protocol.admin import AlterPartitionReassignmentsRequest
from confluent_kafka import ElectionType, TopicPartition

from sandbox.broker.admin import admin_client
from sandbox.broker.errors import BrokerError

_TIMEOUT_S = 30.0


def move_leaders(bootstrap: str) -> int:
    """Gives each partition, also of internal topics, another leader among its copies.

    It makes the second copy of each partition the preferred leader, then elects the preferred leaders. Returns the
    number of moved leaders.

    Raises:
        BrokerError: a broker rejects the change.
    """
    client = admin_client(bootstrap)
    wanted: dict[tuple[str, int], list[int]] = {}
    for name, topic in client.list_topics(timeout=_TIMEOUT_S).topics.items():
        for number, partition in topic.partitions.items():
            first = partition.replicas.index(partition.leader)
            wanted[name, number] = partition.replicas[first + 1 :] + partition.replicas[: first + 1]
    asyncio.run(_reorder(bootstrap, wanted))
    partitions = [TopicPartition(*partition) for partition in wanted]
    # Without options: confluent-kafka 2.16 fails with any of them.
    elected = client.elect_leaders(ElectionType.PREFERRED, partitions).result(_TIMEOUT_S)
    errors = {f"{p.topic}/{p.partition}": error.str() for p, error in elected.items() if error is not None}
    if errors:
        raise BrokerError(f"could not move leaders: {errors}")
    return len(elected)


async def _reorder(bootstrap: str, replicas: Mapping[tuple[str, int], list[int]]) -> None:
    """Changes the order of the copies. confluent-kafka has no such request."""
    topics: defaultdict[str, list[tuple[int, list[int], dict[int, bytes]]]] = defaultdict(list)
    for (topic, partition), nodes in replicas.items():
        topics[topic].append((partition, nodes, {}))
    request = AlterPartitionReassignmentsRequest(
        round(_TIMEOUT_S * 1e3), [(topic, partitions, {}) for topic, partitions in topics.items()], {}
    )
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    try:
        await client.bootstrap()
        response = await client.send(client.get_random_node(), request)
    finally:
        await client.close()
    codes = {response.error_code, *(code for _, found, *_ in response.responses for _, code, *_ in found)} - {0}
    if codes:
        raise BrokerError(f"could not reorder copies: {[for_code(code).__name__ for code in codes]}")
