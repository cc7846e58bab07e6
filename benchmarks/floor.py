"""A minimal program with the best known method for each step: the floor of the cost.

With a topic of ads it reads their rows at its start, and requests name ads by id.
It has no deadlines, score cache, priors, commits, metrics, handling of bad input, checksums of fetches or shutdown.
"""

import argparse
import asyncio
import gc
import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, cast

import grpc.aio
import msgspec
import numpy as np
import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.partitioner import DefaultPartitioner
from xxhash import xxh3_64_intdigest

from benchmarks.read_ads import ads_of
from sandbox.host.loopback import DIRECT
from streamer.features import FeatureSpec, Layout
from streamer.features.document import DocumentEncoder
from streamer.features.hashing import PADDING, TextHasher, prepare
from streamer.features.side import SideEncoder
from streamer.serving.protos import predict_pb2, types_pb2
from streamer.types import F32, I32, U64

CHUNK, CONCURRENT_CALLS = 4, 3
_MEMOISED = 20_000
_BATCH_BYTES = 2**19
"""More than the answers of a chunk."""
_DTYPES = {np.dtype(np.float32): types_pb2.DT_FLOAT, np.dtype(np.int32): types_pb2.DT_INT32}
_MIX = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))
_PAIRS = np.s_[:, :-2]
"""The words of pair crosses; the others are for the keys of a cache."""


class Document(msgspec.Struct):
    """The parts of a request; candidates as raw rows, or as columns."""

    request_id: str
    user: dict[str, object]
    context: dict[str, object]
    candidates: list[msgspec.Raw] | dict[str, list[object]]


decode = msgspec.json.Decoder(Document).decode


@dataclass(frozen=True, slots=True)
class Chunk:
    """Encoded requests that travel in one call; `ad_ids` and `documents` are parallel."""

    documents: Sequence[Document]
    ad_ids: Sequence[Sequence[str]]
    message: Any


class FloorEncoder:
    """Builds one `score` call for several requests.

    Candidates' rows are memoised by a hash of a row's bytes, or by the values of a candidate's columns; with a table
    they are all encoded before, by ad id. One gather takes the rows of all requests, and one operation crosses them
    with their requests.
    """

    def __init__(self, spec: FeatureSpec, ads: Mapping[str, Mapping[str, object]] | None = None) -> None:
        """`ads`: all ads by id, for requests that name ids only."""
        layout = Layout(spec)
        hasher, ignored = TextHasher(), Counter[str]()
        request, self._candidate = (
            SideEncoder(layout, candidates=side, hasher=hasher, out_of_range=ignored) for side in (False, True)
        )
        self._request = DocumentEncoder(request.plan, ignored)
        self._slots: dict[Hashable, int] = {}
        self._ad_ids: list[str] = []
        empty = self._candidate.encode_documents([])
        self._by_id, self._size = ads is not None, max(_MEMOISED, len(ads or ()))
        self._ids, self._floats, self._halves = (
            np.zeros((self._size, part.shape[1]), part.dtype) for part in (empty.ids, empty.floats, empty.words[_PAIRS])
        )
        if ads:
            self._slots_by(list(ads), list(ads.values()), lambda document: document)
        pairs = [(at, cross) for at, cross in layout.crosses("pair") for _ in range(at.width)]
        self._modulus = np.array([cross.buckets for _, cross in pairs], dtype=np.uint64)
        self._base = np.array([at.offset for at, _ in pairs], dtype=np.int32)
        self._padded = any(spec.is_padded(cross) for _, cross in pairs)

    def encode(self, documents: Sequence[Document]) -> Chunk:
        """The call that scores these requests."""
        if not self._by_id and len(self._ad_ids) + sum(_count(d.candidates) for d in documents) > self._size:
            self._slots.clear()
            self._ad_ids.clear()
        found = [self._slots_of(document.candidates) for document in documents]
        index = np.concatenate([np.array(slots, dtype=np.intp) for slots in found])
        ends = [self._request.encode({"user": d.user, "context": d.context}, denied=False) for d in documents]
        words = np.concatenate([end.words[_PAIRS] for end in ends])
        owners = np.repeat(np.arange(len(documents), dtype=np.int32), list(map(len, found)))
        message = predict_pb2.PredictRequest()
        message.model_spec.name, message.model_spec.signature_name = "ctr", "score"
        pair_ids = self._crossed(words, owners, self._halves.take(index, axis=0))
        _put(message, "request_ids", np.concatenate([end.ids for end in ends]))
        _put(message, "request_floats", np.concatenate([end.floats for end in ends]))
        _put(message, "candidate_ids", self._ids.take(index, axis=0))
        _put(message, "candidate_floats", self._floats.take(index, axis=0))
        _put(message, "pair_ids", pair_ids)
        _put(message, "row_to_request", owners)
        ad_ids = [self._ad_ids_of(d, slots) for d, slots in zip(documents, found, strict=True)]
        return Chunk(documents, ad_ids, message)

    def _ad_ids_of(self, document: Document, slots: Sequence[int]) -> Sequence[str]:
        if isinstance(document.candidates, dict):
            return cast("list[str]", document.candidates["ad_id"])
        return cast("Sequence[str]", itemgetter(*slots)(self._ad_ids))

    def _slots_of(self, candidates: list[msgspec.Raw] | dict[str, list[object]]) -> Sequence[int]:
        """The slot of each candidate; an unknown one is encoded first."""
        if isinstance(candidates, list):
            return self._slots_by(
                list(map(xxh3_64_intdigest, candidates)), candidates, lambda raw: orjson.loads(bytes(raw))
            )
        if self._by_id:
            return list(map(self._slots.__getitem__, candidates["ad_id"]))
        names, values = tuple(candidates), list(zip(*candidates.values(), strict=True))
        return self._slots_by(values, values, lambda of_ad: dict(zip(names, of_ad, strict=True)))

    def _slots_by(
        self, keys: Sequence[Hashable], candidates: Sequence[Any], document_of: Callable[[Any], Mapping[str, object]]
    ) -> Sequence[int]:
        """`keys` and `candidates` are parallel."""
        try:
            return list(map(self._slots.__getitem__, keys))
        except KeyError:
            pass
        unknown = {k: c for k, c in zip(keys, candidates, strict=True) if k not in self._slots}
        documents = list(map(document_of, unknown.values()))
        new, first = self._candidate.encode_documents(documents), len(self._ad_ids)
        end = first + len(documents)
        self._ids[first:end], self._floats[first:end], self._halves[first:end] = new.ids, new.floats, new.words[_PAIRS]
        self._ad_ids += [str(document["ad_id"]) for document in documents]
        self._slots.update(zip(unknown, range(first, end), strict=True))
        return list(map(self._slots.__getitem__, keys))

    def _crossed(self, requests: U64, owners: I32, candidates: U64) -> I32:
        """As the encoder crosses them, in one buffer."""
        crossed = join_in_place(prepare(requests).take(owners, axis=0), candidates)
        crossed %= self._modulus
        ids: I32 = crossed.astype(np.int32)
        ids += self._base
        if self._padded:
            ids[(requests[owners] == PADDING) | (candidates == PADDING)] = 0
        return ids


def _count(candidates: list[msgspec.Raw] | dict[str, list[object]]) -> int:
    return len(candidates) if isinstance(candidates, list) else len(candidates["ad_id"])


def _put(message: Any, name: str, array: F32 | I32) -> None:
    if array.ndim == 2 and not array.shape[1]:
        return  # the signature has no inputs of width 0
    tensor = message.inputs[name]
    tensor.dtype = _DTYPES[array.dtype]
    for size in array.shape:
        tensor.tensor_shape.dim.add().size = size
    tensor.tensor_content = array.tobytes()


def join_in_place(prepared: U64, right: U64) -> U64:
    """`streamer.features.hashing.join`, written to `prepared`."""
    mixed, shifted = prepared, np.empty_like(prepared)
    mixed ^= right
    for shift, factor in _MIX:
        np.right_shift(mixed, shift, out=shifted)
        mixed ^= shifted
        mixed *= factor
    np.right_shift(mixed, np.uint64(31), out=shifted)
    mixed ^= shifted
    return mixed


def answers(chunk: Chunk, reply: Any, ms: float) -> list[bytes]:
    """The answers of a call's requests; `ms` since their receipt."""
    output = reply.outputs["ctr"]
    content = output.tensor_content
    ctr = np.frombuffer(content, np.float32) if content else np.array(output.float_val, np.float32)
    made, at = [], 0
    for document, ad_ids in zip(chunk.documents, chunk.ad_ids, strict=True):
        end = at + len(ad_ids)
        answer = {
            "request_id": document.request_id,
            "status": "ok",
            "ad_id": ad_ids,
            "ctr": ctr[at:end],
            "source": ("model",) * len(ad_ids),
            "ms": {"total": ms},
        }
        made.append(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY))
        at = end
    return made


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
    encoder = FloorEncoder(spec, await ads_of(arguments))
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
            chunk = encoder.encode([decode(record.value) for record in records])
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
