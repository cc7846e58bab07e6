"""Asks any broker that answers."""

import asyncio
import random
from typing import Any

from aiokafka.errors import KafkaConnectionError, KafkaError


async def ask_any(client: Any, request: Any, try_s: float) -> Any:
    """Asks the known brokers in random order, `try_s` seconds each, until one answers.

    A broker that hangs keeps its connections: aiokafka would wait for its whole request timeout.

    Raises:
        KafkaError: no broker answers.
        NotImplementedError: a broker does not know the request.
    """
    failure: KafkaError = KafkaConnectionError("no broker is known")
    nodes = [broker.nodeId for broker in client.cluster.brokers()]
    for node in random.sample(nodes, len(nodes)):
        try:
            async with asyncio.timeout(try_s):
                return await client.send(node, request)
        except TimeoutError:
            failure = KafkaConnectionError(f"broker {node} does not answer within {try_s:.1f} s")
        except KafkaError as error:
            failure = error
    raise failure
