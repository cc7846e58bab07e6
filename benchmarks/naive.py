"""A straightforward first version: one record at a time, flat rows, a commit per record.

Candidates in columns become a list of objects first. With a topic of ads it keeps their objects in a dict.
"""

import argparse
import asyncio

import grpc.aio
import numpy as np
import orjson
import tensorflow as tf
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from benchmarks.read_ads import ads_of
from sandbox.host.loopback import DIRECT
from streamer.features import Encoder, FeatureSpec


async def main(arguments: argparse.Namespace) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.aio.insecure_channel(arguments.model_server, DIRECT))
    wanted = predict_pb2.PredictRequest()
    wanted.model_spec.name, wanted.model_spec.signature_name = "ctr", "feature_spec"
    encoder = Encoder(FeatureSpec.from_json((await stub.Predict(wanted)).outputs["spec"].string_val[0]))
    ads = await ads_of(arguments)
    consumer = AIOKafkaConsumer(
        arguments.input,
        bootstrap_servers=arguments.bootstrap,
        group_id=arguments.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    producer = AIOKafkaProducer(bootstrap_servers=arguments.bootstrap, acks="all")
    await producer.start()
    await consumer.start()
    async for record in consumer:
        document = orjson.loads(record.value)
        candidates = document["candidates"]
        if ads is not None:
            candidates = [ads[ad_id] for ad_id in candidates["ad_id"]]
        elif isinstance(candidates, dict):
            candidates = [
                dict(zip(candidates, values, strict=True)) for values in zip(*candidates.values(), strict=True)
            ]
        ids, floats = encoder.encode_log([document], candidates, [len(candidates)])
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = "ctr", "serving_default"
        request.inputs["ids"].CopyFrom(tf.make_tensor_proto(ids))
        request.inputs["floats"].CopyFrom(tf.make_tensor_proto(floats))
        reply = await stub.Predict(request)
        ctr = np.asarray(tf.make_ndarray(reply.outputs["ctr"]), dtype=np.float32)
        answer = {
            "request_id": document["request_id"],
            "status": "ok",
            "ad_id": [candidate["ad_id"] for candidate in candidates],
            "ctr": ctr.tolist(),
        }
        await producer.send_and_wait(arguments.output, orjson.dumps(answer), key=record.key)
        await consumer.commit()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("bootstrap", "model-server", "input", "output", "group"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--ads", help="topic of ads; requests then name ads by id")
    asyncio.run(main(parser.parse_args()))
