"""Encoders of the floor program: the best known method for each step."""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Protocol, cast

import msgspec
import numpy as np
import orjson
from xxhash import xxh3_64_intdigest

from streamer import native
from streamer.features import Encoder, FeatureSpec, Layout
from streamer.features.document_native import document_encoder_of
from streamer.features.hashing import PADDING, TextHasher, prepare
from streamer.features.side import SideEncoder
from streamer.formats.candidates import Candidates
from streamer.formats.column_rows import ColumnRows
from streamer.formats.json_documents import JsonDocuments
from streamer.serving.protos import predict_pb2, types_pb2
from streamer.types import F32, I32, U64, BidRequest

_MEMOISED = 20_000
_DTYPES = {np.dtype(np.float32): types_pb2.DT_FLOAT, np.dtype(np.int32): types_pb2.DT_INT32}
_MIX = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))
_PAIRS = np.s_[:, :-2]
"""The words of pair crosses; the others are for the keys of a cache."""
_PARTS = ("request_ids", "request_floats", "candidate_ids", "candidate_floats", "pair_ids")
_MAX_CANDIDATES = 2**20

Ads = Mapping[str, Mapping[str, object]]
"""Documents of ads by id."""


class Document(msgspec.Struct):
    """The parts of a request; candidates as raw rows, or as columns."""

    request_id: str
    user: dict[str, object]
    context: dict[str, object]
    candidates: list[msgspec.Raw] | dict[str, list[object]]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Encoded requests that travel in one call; `ad_ids` and `request_ids` are parallel."""

    request_ids: Sequence[str]
    ad_ids: Sequence[Sequence[str]]
    message: Any


class FloorEncoder(Protocol):
    """Reads requests, and builds one `score` call for several of them."""

    def decode(self, value: bytes) -> Any:
        """A request."""

    def encode(self, requests: Sequence[Any]) -> Chunk:
        """The call that scores these requests."""


def floor_encoder(spec: FeatureSpec, ads: Ads | None = None) -> FloorEncoder:
    """The encoder with the best known steps.

    `ads`: all ads by id, for requests that name ids only.
    """
    return PythonFloor(spec, ads) if ads is not None or native.module is None else CompiledFloor(spec)


class CompiledFloor:
    """Implements `FloorEncoder` by the scorer's own steps, which are compiled."""

    def __init__(self, spec: FeatureSpec) -> None:
        parts = frozenset(("user", "context"))
        self._columns = ColumnRows(spec.request.ad_id)
        keys = parts | {"request_id"}
        self._documents = JsonDocuments(keys, parts, "candidates", _MAX_CANDIDATES, self._columns.unparsed)
        self._encoder = Encoder(spec, memoised_ads=_MEMOISED)

    def decode(self, value: bytes) -> BidRequest:
        fields, found = self._documents.read(value)
        candidates = self._columns.candidates(found) if isinstance(found, dict) else found
        if not isinstance(candidates, Candidates):
            candidates = Candidates(cast("Any", candidates))
        size = len(candidates.rows or cast("Any", candidates.columns)["ad_id"])
        request_id = cast("str", fields["request_id"])
        return BidRequest(request_id, fields, size, candidates.rows, candidates.columns, read_row=candidates.read_row)

    def encode(self, requests: Sequence[BidRequest]) -> Chunk:
        encoded = list(map(self._encoder.encode, requests))
        message = new_message()
        for name in _PARTS:
            put(message, name, np.concatenate([getattr(one, name) for one in encoded]))
        put(message, "row_to_request", owners_of([one.size for one in encoded]))
        return Chunk([request.request_id for request in requests], [one.ad_ids for one in encoded], message)


class PythonFloor:
    """Implements `FloorEncoder`; of compiled code it uses what encodes a document.

    Candidates' rows are memoised by a hash of a row's bytes, or by the values of a candidate's columns; with a table
    they are all encoded before, by ad id. One gather takes the rows of all requests, and one operation crosses them
    with their requests.
    """

    decode = staticmethod(msgspec.json.Decoder(Document).decode)

    def __init__(self, spec: FeatureSpec, ads: Ads | None = None) -> None:
        """`ads`: all ads by id, for requests that name ids only."""
        layout = Layout(spec)
        hasher, ignored = TextHasher(), Counter[str]()
        request, self._candidate = (
            SideEncoder(layout, candidates=side, hasher=hasher, out_of_range=ignored) for side in (False, True)
        )
        self._request = document_encoder_of(request.plan, ignored)
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
        owners = owners_of(list(map(len, found)))
        message = new_message()
        pair_ids = self._crossed(words, owners, self._halves.take(index, axis=0))
        put(message, "request_ids", np.concatenate([end.ids for end in ends]))
        put(message, "request_floats", np.concatenate([end.floats for end in ends]))
        put(message, "candidate_ids", self._ids.take(index, axis=0))
        put(message, "candidate_floats", self._floats.take(index, axis=0))
        put(message, "pair_ids", pair_ids)
        put(message, "row_to_request", owners)
        ad_ids = [self._ad_ids_of(d, slots) for d, slots in zip(documents, found, strict=True)]
        return Chunk([document.request_id for document in documents], ad_ids, message)

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


def new_message() -> Any:
    """A call without inputs."""
    message = predict_pb2.PredictRequest()
    message.model_spec.name, message.model_spec.signature_name = "ctr", "score"
    return message


def owners_of(sizes: Sequence[int]) -> I32:
    """The number of its request for each row, of requests with so many candidates."""
    return np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)


def put(message: Any, name: str, array: F32 | I32) -> None:
    """Adds an input."""
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
    for request_id, ad_ids in zip(chunk.request_ids, chunk.ad_ids, strict=True):
        end = at + len(ad_ids)
        answer = {
            "request_id": request_id,
            "status": "ok",
            "ad_id": ad_ids,
            "ctr": ctr[at:end],
            "source": ("model",) * len(ad_ids),
            "ms": {"total": ms},
        }
        made.append(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY))
        at = end
    return made
