"""Values that travel between stages. Frozen, without behaviour beyond what their fields imply."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from streamer.deadline import Deadline

I32 = npt.NDArray[np.int32]
F32 = npt.NDArray[np.float32]
U64 = npt.NDArray[np.uint64]
I8 = npt.NDArray[np.int8]

Tensor = npt.NDArray[np.generic]

Status = Literal["ok", "partial", "fallback", "expired", "invalid"]
Header = tuple[str, bytes]
Partition = tuple[str, int]
"""Topic and number of a partition."""

SOURCES = ("model", "cache", "prior")
"""Where one candidate's score came from; `EncodedRequest` rows carry indices into this."""
FROM_MODEL, FROM_CACHE, FROM_PRIOR = range(3)


@dataclass(frozen=True, slots=True)
class Origin:
    """The Kafka record that a message came from, by which a consumer recognises a repeat."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the input topic, as it was received.

    Attributes:
        deadline: by the default budget, from the record's timestamp or its receipt, in monotonic seconds.
        at: when it was received, monotonic seconds.
        timestamp_ms: the record's own timestamp, milliseconds since the epoch.
        is_suspect: its worker has died while it was alone in flight; it is not processed again.
    """

    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    origin: Origin
    timestamp_ms: int
    deadline: Deadline
    at: float
    is_suspect: bool = False


class FlatCall(Protocol):
    """A signature that takes no encoded form: its name, its output, and the tensors that it makes of a batch."""

    @property
    def name(self) -> str: ...
    @property
    def output(self) -> str: ...
    def tensors(self, batch: "BatchInputs") -> Mapping[str, Tensor]: ...


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A servable of the model server.

    Attributes:
        flat: how it is called where it has no `score` signature; no part of its identity.
    """

    name: str
    version: int
    flat: FlatCall | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


@dataclass(frozen=True, slots=True)
class RequestPaths:
    """Where a request's own fields stand. `ad_id` is a path inside a candidate; the others start at the document."""

    request_id: str = "request_id"
    deadline_ms: str = "deadline_ms"
    model: str = "model"
    candidates: str = "candidates"
    ad_id: str = "ad_id"


@dataclass(frozen=True, slots=True)
class BadRecord:
    """What decoding makes of a record that cannot be scored: `reason` names the field, `request_id` is None if lost."""

    request_id: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class BidRequest:
    """One auction's request for scores.

    Attributes:
        request_id: unique per auction; the answer carries it.
        fields: the top level of the document, for the user's and the context's features.
        rows: the JSON of each candidate (an object), or None where the request brings columns.
        columns: candidate values by key, lists of `size` values; None where the request brings rows.
        size: how many candidates there are.
        deadline_ms: the budget that the request itself names, in milliseconds.
        model: the model that the request itself names.
    """

    request_id: str
    fields: Mapping[str, object]
    size: int
    rows: Sequence[bytes] | None = None
    columns: Mapping[str, object] | None = None
    deadline_ms: float | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class EncodedRequest:
    """A request as the model takes it, for n candidates.

    Attributes:
        ad_ids: n ad ids in the request's order; an id may stand more than once.
        request_ids, request_floats: int32 [1, ids of user and context], float32 [1, their numbers].
        candidate_ids, candidate_floats: int32 [n, …], float32 [n, …].
        pair_ids: int32 [n, …], crosses of the request's values with the candidate's.
        keys: uint64 [n, 2], 128-bit keys of everything above; rows of equal keys share their score of a model version.
            Their ids are equal, their numbers to 1/32 of a standard deviation.
        ad_keys: uint64 [n], keys of the candidates' own values alone.
    """

    ad_ids: Sequence[str]
    request_ids: I32
    request_floats: F32
    candidate_ids: I32
    candidate_floats: F32
    pair_ids: I32
    keys: U64
    ad_keys: U64

    @property
    def size(self) -> int:
        """Number of candidates."""
        return len(self.ad_ids)


@dataclass(frozen=True, slots=True)
class BatchInputs:
    """Rows of one or more requests as the `score` signature takes them.

    Attributes:
        request_ids, request_floats: [r, …], one row a request.
        candidate_ids, candidate_floats, pair_ids: [n, …], one row a candidate.
        row_to_request: int32 [n], the request row of each candidate, below r.
    """

    request_ids: I32
    request_floats: F32
    candidate_ids: I32
    candidate_floats: F32
    pair_ids: I32
    row_to_request: I32

    @classmethod
    def whole(cls, encoded: EncodedRequest) -> "BatchInputs":
        """All candidates of one request, in its order."""
        return cls(
            request_ids=encoded.request_ids,
            request_floats=encoded.request_floats,
            candidate_ids=encoded.candidate_ids,
            candidate_floats=encoded.candidate_floats,
            pair_ids=encoded.pair_ids,
            row_to_request=np.zeros(encoded.size, dtype=np.int32),
        )

    @property
    def rows(self) -> int:
        """Number of candidates."""
        return len(self.row_to_request)


class TensorInfo(NamedTuple):
    """What a signature says of one tensor: the name of its dtype, and its sizes, -1 where one is left open."""

    dtype: str
    dims: tuple[int, ...]


class SignatureInfo(NamedTuple):
    """The inputs and outputs of a signature by name."""

    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Milliseconds spent in each stage by one request; `total` from its receipt to its answer."""

    decode: float = 0.0
    encode: float = 0.0
    queue: float = 0.0
    predict: float = 0.0
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class ScoreMessage:
    """The answer to one request.

    Attributes:
        ad_ids, ctr, sources: columns of n candidates in the request's order; ctr float32 in [0, 1], sources int8
            indices into `SOURCES`. All None when `status` is `expired` or `invalid`.
        reason: what was wrong, for `invalid`; why scores are missing, for `partial` and `fallback`.
        batch_rows: rows of the largest batch that candidates of this request travelled in; 0 if none did.
    """

    request_id: str
    status: Status
    origin: Origin
    model: ModelVersion | None = None
    ad_ids: Sequence[str] | None = None
    ctr: F32 | None = None
    sources: I8 | None = None
    reason: str | None = None
    times: StageTimes = field(default_factory=StageTimes)
    batch_rows: int = 0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be answered because it carries no request id.

    Attributes:
        stage: the stage that gave up.
        reason: a sentence that names the field.
        timestamp_ms: the record's own timestamp, milliseconds since the epoch.
    """

    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]
    origin: Origin
    timestamp_ms: int
    stage: str
    reason: str
