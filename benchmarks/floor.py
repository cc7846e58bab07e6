"""A hand-written minimal program for the same job: the floor for the scorer's throughput.

Chunks of up to 4 records from `getmany`, ads memoised by their exact bytes, one factored call per chunk, 3 concurrent
calls, answers produced. It has no deadlines, cache, commits, metrics, handling of bad input, or shutdown.
"""

import argparse
import asyncio

import grpc.aio
import msgspec
import numpy as np
import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from sandbox.host.loopback import DIRECT
from streamer.features import Encoder, FeatureSpec
from streamer.serving.protos import predict_pb2, types_pb2
from streamer.types import BidRequest, EncodedRequest

CHUNK, CONCURRENT_CALLS = 4, 3


class Document(msgspec.Struct):
    request_id: str
    user: dict[str, object]
    context: dict[str, object]
    candidates: list[msgspec.Raw]


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
    encoder = Encoder(spec)
    decoder = msgspec.json.Decoder(Document)
    consumer = AIOKafkaConsumer(
        arguments.input,
        bootstrap_servers=arguments.bootstrap,
        group_id=arguments.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=100,
        max_partition_fetch_bytes=4 * 2**20,
    )
    producer = AIOKafkaProducer(bootstrap_servers=arguments.bootstrap, linger_ms=0, acks="all")
    await producer.start()
    await consumer.start()
    slots = asyncio.Semaphore(CONCURRENT_CALLS)
    running: set[asyncio.Task[None]] = set()

    async def score(keys: list[bytes], requests: list[Document], encoded: list[EncodedRequest]) -> None:
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = "ctr", "score"
        inputs = {
            name: np.concatenate([getattr(e, name) for e in encoded])
            for name in ("request_ids", "request_floats", "candidate_ids", "candidate_floats", "pair_ids")
        }
        inputs["row_to_request"] = np.repeat(np.arange(len(encoded), dtype=np.int32), [e.size for e in encoded])
        for name, array in inputs.items():
            tensor = request.inputs[name]
            tensor.dtype = types_pb2.DT_FLOAT if array.dtype == np.float32 else types_pb2.DT_INT32
            for size in array.shape:
                tensor.tensor_shape.dim.add().size = size
            tensor.tensor_content = array.tobytes()
        try:
            reply = await call(request)
        finally:
            slots.release()
        output = reply.outputs["ctr"]
        content = output.tensor_content
        ctr = np.frombuffer(content, np.float32) if content else np.array(output.float_val, np.float32)
        at = 0
        for key, document, row in zip(keys, requests, encoded, strict=True):
            answer = {
                "request_id": document.request_id,
                "status": "ok",
                "ad_id": row.ad_ids,
                "ctr": ctr[at : at + row.size],
            }
            at += row.size
            await producer.send(arguments.output, orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), key=key)

    while True:
        for records in (await consumer.getmany(timeout_ms=100, max_records=CHUNK)).values():
            documents = [decoder.decode(record.value) for record in records]
            encoded = [
                encoder.encode(
                    BidRequest(
                        d.request_id,
                        {"user": d.user, "context": d.context},
                        len(d.candidates),
                        rows=[bytes(c) for c in d.candidates],
                    )
                )
                for d in documents
            ]
            await slots.acquire()
            task = asyncio.create_task(score([r.key for r in records], documents, encoded))
            running.add(task)
            task.add_done_callback(running.discard)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("bootstrap", "model-server", "input", "output", "group"):
        parser.add_argument(f"--{name}", required=True)
    uvloop.run(main(parser.parse_args()))
