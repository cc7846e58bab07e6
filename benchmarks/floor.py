"""A minimal program with the best known method for each step: the floor of the cost.

With a topic of ads it reads their rows at its start, and requests name ads by id. Where the compiled code is installed,
its steps are the best known ones.
It has no deadlines, score cache, priors, commits, metrics, handling of bad input, checksums of fetches or shutdown.
"""

import argparse
import asyncio
import gc
import time
from typing import Any

import grpc.aio
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.partitioner import DefaultPartitioner

from benchmarks.floor_encoders import Chunk, answers, floor_encoder
from benchmarks.read_ads import ads_of
from sandbox.host.loopback import DIRECT
from streamer.features import FeatureSpec
from streamer.serving.protos import predict_pb2

CHUNK, CONCURRENT_CALLS = 6, 3
_BATCH_BYTES = 2**19
"""More than the answers of a chunk."""


async def main(arguments: argparse.Namespace) -> None:
    channel = grpc.aio.insecure_channel(arguments.model_server, DIRECT)
    call = channel.unary_unary(
        "/tensorflow.serving.PredictionService/Predict",
        request_serializer=predict_pb2.PredictRequest.SerializeToString,
        response_deserializer=predict_pb2.PredictResponse.FromString,
    )
    wanted = predict_pb2.PredictRequest()
    wanted.model_spec.name, wanted.model_spec.signature_name = "ctr", "feature_spec"
    spec = FeatureSpec.from_json((await call(wanted)).outputs["spec"].string_val[0])
    encoder = floor_encoder(spec, await ads_of(arguments))
    consumer = AIOKafkaConsumer(
        arguments.input,
        bootstrap_servers=arguments.bootstrap,
        group_id=arguments.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        check_crcs=False,
        fetch_max_wait_ms=100,
        max_partition_fetch_bytes=2**20,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=arguments.bootstrap, linger_ms=0, acks="all", max_batch_size=_BATCH_BYTES
    )
    await producer.start()
    await consumer.start()
    partitions = sorted(await producer.partitions_for(arguments.output))
    partition_of = DefaultPartitioner()
    # aiokafka has room for one batch of a partition; of many that wait for it some would time out.
    room = {partition: asyncio.Lock() for partition in partitions}
    slots = asyncio.Semaphore(CONCURRENT_CALLS)
    running: set[asyncio.Task[None]] = set()
    gc.freeze()

    async def score(keys: list[bytes], chunk: Chunk, at: float) -> None:
        try:
            reply = await call(chunk.message)
        finally:
            slots.release()
        batches: dict[int, Any] = {}
        for key, value in zip(keys, answers(chunk, reply, 1e3 * (time.monotonic() - at)), strict=True):
            to = partition_of(key, partitions, partitions)
            if to not in batches:
                batches[to] = producer.create_batch()
            batches[to].append(key=key, value=value, timestamp=None)
        for to, batch in batches.items():
            batch.close()
            async with room[to]:
                await producer.send_batch(batch, arguments.output, partition=to)

    while True:
        received = await consumer.getmany(timeout_ms=100, max_records=arguments.chunk)
        at = time.monotonic()
        records = [record for of_partition in received.values() for record in of_partition]
        if records:
            chunk = encoder.encode([encoder.decode(record.value) for record in records])
            await slots.acquire()
            task = asyncio.create_task(score([record.key for record in records], chunk, at))
            running.add(task)
            task.add_done_callback(running.discard)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("bootstrap", "model-server", "input", "output", "group"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--ads", help="topic of ads; requests then name ads by id")
    parser.add_argument("--chunk", type=int, default=CHUNK, help="most requests in a call")
    uvloop.run(main(parser.parse_args()))
