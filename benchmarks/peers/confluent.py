"""confluent-kafka's asyncio clients: chunks of records, concurrent calls in each."""

import argparse
import asyncio
from itertools import chain
from typing import Any

import uvloop
from confluent_kafka import TopicPartition
from confluent_kafka.aio import AIOConsumer, AIOProducer

from benchmarks.peers.scoring import arguments_of, asyncio_call, scoring_of


async def main(arguments: argparse.Namespace) -> None:
    scoring, call = scoring_of(arguments.model_server), asyncio_call(arguments.model_server)
    consumer = AIOConsumer(
        {
            "bootstrap.servers": arguments.bootstrap,
            "group.id": arguments.group,
            "auto.offset.reset": "earliest",
            "enable.auto.offset.store": False,
        }
    )
    producer = AIOProducer({"bootstrap.servers": arguments.bootstrap, "linger.ms": 0})
    await consumer.subscribe([arguments.input])

    async def score(messages: list[Any]) -> list[Any]:
        request, documents = scoring.request([message.value() for message in messages])
        answers = scoring.answers(documents, await call(request))
        return [
            await producer.produce(arguments.output, value=answer, key=message.key())
            for message, answer in zip(messages, answers, strict=True)
        ]

    size = arguments.per_call
    while True:
        messages = await consumer.consume(num_messages=arguments.calls * size, timeout=0.01)
        if not messages:
            continue
        futures = await asyncio.gather(*(score(messages[at : at + size]) for at in range(0, len(messages), size)))
        # A future is done only after a flush: no other call of the client serves the delivery reports soon enough.
        await producer.flush()
        await asyncio.gather(*chain.from_iterable(futures))
        last = {message.partition(): message.offset() for message in messages}
        # The client commits them every 5 s.
        await consumer.store_offsets(offsets=[TopicPartition(arguments.input, p, at + 1) for p, at in last.items()])


if __name__ == "__main__":
    uvloop.run(main(arguments_of("calls", "per-call")))
