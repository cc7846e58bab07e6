"""The part that all Python peers share: from requests to a call, from its reply to answers.

As in `benchmarks.naive`, every value of every candidate is encoded for each request. Beyond it: several requests are
encoded together and scored in one call, by the signature that takes the user and the context once per request, and the
message is built without TensorFlow.
"""

import argparse
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import grpc
import grpc.aio
import numpy as np
import orjson
import prediction_service_pb2 as protos

from sandbox.host.loopback import DIRECT
from streamer.features import Encoder, FeatureSpec
from streamer.types import F32, I32

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_SPEC = protos.PredictRequest(model_spec=protos.ModelSpec(name="ctr", signature_name="feature_spec"))

Document = Mapping[str, Any]


def blocking_call(address: str) -> Any:
    """A function that sends one PredictRequest and waits for the reply."""
    return _method(grpc.insecure_channel(address, DIRECT))


def asyncio_call(address: str) -> Any:
    """The same as a coroutine function; it needs a running event loop."""
    return _method(grpc.aio.insecure_channel(address, DIRECT))


def _method(channel: Any) -> Any:
    return channel.unary_unary(
        _PREDICT,
        request_serializer=protos.PredictRequest.SerializeToString,
        response_deserializer=protos.PredictResponse.FromString,
    )


def scoring_of(address: str) -> "Scoring":
    """The scoring for the model of a server; it waits for the model's feature spec."""
    with grpc.insecure_channel(address, DIRECT) as channel:
        reply = _method(channel)(_SPEC)
    return Scoring(reply.outputs["spec"].string_val[0])


class Scoring:
    """Calls and answers for the model with this feature spec, as JSON."""

    def __init__(self, spec: bytes) -> None:
        self._encoder = Encoder(FeatureSpec.from_json(spec))
        layout = self._encoder.layout
        self._id_ends = np.cumsum([layout.id_width("request"), layout.id_width("candidate")])
        self._float_end = layout.float_width("request")

    def request(self, values: Sequence[bytes]) -> tuple[Any, list[Document]]:
        """The Predict call for requests, JSON, and their documents."""
        documents = [orjson.loads(value) for value in values]
        sizes = [len(document["candidates"]) for document in documents]
        candidates = list(chain.from_iterable(document["candidates"] for document in documents))
        ids, floats = self._encoder.encode_log(documents, candidates, sizes)
        firsts = np.cumsum([0, *sizes[:-1]])
        request_ids, candidate_ids, pair_ids = np.split(ids, self._id_ends, axis=1)
        request = protos.PredictRequest(model_spec=protos.ModelSpec(name="ctr", signature_name="score"))
        inputs: dict[str, I32 | F32] = {
            "request_ids": request_ids[firsts],
            "request_floats": floats[firsts, : self._float_end],
            "candidate_ids": candidate_ids,
            "candidate_floats": floats[:, self._float_end :],
            "pair_ids": pair_ids,
            "row_to_request": np.repeat(np.arange(len(sizes), dtype=np.int32), sizes),
        }
        for name, array in inputs.items():
            tensor = request.inputs[name]
            tensor.dtype = protos.DT_FLOAT if array.dtype == np.float32 else protos.DT_INT32
            for size in array.shape:
                tensor.tensor_shape.dim.add().size = size
            tensor.tensor_content = array.tobytes()
        return request, documents

    def answers(self, documents: Sequence[Document], reply: Any) -> list[bytes]:
        """The answer to each document, JSON."""
        output = reply.outputs["ctr"]
        content = output.tensor_content
        ctr = np.frombuffer(content, np.float32) if content else np.array(output.float_val, np.float32)
        found: list[bytes] = []
        at = 0
        for document in documents:
            ads = [candidate["ad_id"] for candidate in document["candidates"]]
            answer = {
                "request_id": document["request_id"],
                "status": "ok",
                "ad_id": ads,
                "ctr": ctr[at : at + len(ads)],
            }
            at += len(ads)
            found.append(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY))
        return found


def arguments_of(*numbers: str) -> argparse.Namespace:
    """The arguments of a peer: addresses, topics, and these whole numbers; all are required."""
    parser = argparse.ArgumentParser()
    for name in ("bootstrap", "model-server", "input", "output", "group"):
        parser.add_argument(f"--{name}", required=True)
    for name in numbers:
        parser.add_argument(f"--{name}", required=True, type=int)
    return parser.parse_args()
