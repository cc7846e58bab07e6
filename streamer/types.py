"""Values that travel between stages. They are frozen and have no behaviour of their own.

Those that each request needs are structs of msgspec, which are made in a fraction of the time of a dataclass.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from streamer.ads import Mask, TablePosition
from streamer.deadline import Deadline

I32 = npt.NDArray[np.int32]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
U64 = npt.NDArray[np.uint64]
I8 = npt.NDArray[np.int8]
ReadRow = Callable[[bytes], object]
Texts = npt.NDArray[np.object_]  # bytes objects
Tensor = npt.NDArray[np.generic]
Status = Literal["ok", "partial", "fallback", "expired", "invalid"]
DeadLetterStage = Literal["read", "decode", "encode", "pipeline", "publish", "crash", "table"]
"""The stages that dead-letter a record."""
Cause = Literal["overload", "defect"]
"""Why the scorer did not score a request: a bound or the lack of time for a call, or an internal error."""
Header = tuple[str, bytes]
Partition = tuple[str, int]
"""Topic and number of a partition."""

SOURCES = ("model", "cache", "prior")
"""Sources of a candidate's score. Arrays of sources hold indices into this tuple."""
FROM_MODEL, FROM_CACHE, FROM_PRIOR = range(3)


class Origin(msgspec.Struct, frozen=True):
    """The input record of a message. A consumer recognises duplicates by it."""

    topic: str
    partition: int
    offset: int


class Record(msgspec.Struct, frozen=True):
    """One received record of the input topic.

    Attributes:
        deadline: the default budget after the record's timestamp or its receipt, in monotonic seconds.
        at: time of receipt, monotonic seconds.
        timestamp_ms: the record's own timestamp, milliseconds since the epoch.
        is_suspect: workers died while this was their only record in flight; it is dead-lettered unprocessed.
        unreadable: why nothing but the position is known of it; it is dead-lettered, too.
    """

    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    origin: Origin
    timestamp_ms: int
    deadline: Deadline
    at: float
    is_suspect: bool = False
    unreadable: str | None = None


class ScoreOutput(NamedTuple):
    """The output with the scores: `column` means a click; `padded_rows` is its only size."""

    name: str
    activation: Literal["sigmoid", "softmax"] | None = None
    column: int | None = None
    padded_rows: int | None = None
    dtype: str = "float32"


class FlatCall(Protocol):
    """A signature without the encoded form: its name, its output, and its inputs for a batch."""

    name: str
    output: ScoreOutput

    def tensors(self, batch: "BatchInputs") -> Mapping[str, Tensor]: ...


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A servable of the model server.

    `flat`: how to call a version without a `score` signature; equality ignores it.
    `generation`: rises when a version number of the model names another object than before.
    """

    name: str
    version: int
    flat: FlatCall | None = field(default=None, compare=False, repr=False)
    generation: int = 0

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


@dataclass(frozen=True, slots=True)
class Availability:
    """The AVAILABLE versions of a model on at least one server, and on each that has any."""

    somewhere: frozenset[int]
    everywhere: frozenset[int]

    @staticmethod
    def of(servers: Iterable[frozenset[int]]) -> "Availability":
        """That of servers with these versions."""
        having = [versions for versions in servers if versions]
        return Availability(frozenset().union(*having), frozenset.intersection(*having) if having else frozenset())


@dataclass(frozen=True, slots=True)
class RequestPaths:
    """Paths of a request's own fields: `ad_id` in a candidate, the others in the document."""

    request_id: str = "request_id"
    deadline_ms: str = "deadline_ms"
    model: str = "model"
    candidates: str = "candidates"
    ad_id: str = "ad_id"


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that cannot be scored: its id if it can be read; why, with the field."""

    request_id: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class BidRequest:
    """One auction's request for scores.

    Attributes:
        request_id, fields: unique per auction; the top level of the document.
        rows: each candidate, a JSON object or as `read_row` reads it; None if the request has columns.
        columns: candidate values by key, lists of `size` values; None if the request has rows.
        size: number of candidates.
        deadline_ms, model: the budget in milliseconds and the model that the request itself names.
        read_row: the object of a row's bytes, or a ValueError with the reason; None: JSON.
    """

    request_id: str
    fields: Mapping[str, object]
    size: int
    rows: Sequence[bytes] | None = None
    columns: Mapping[str, object] | None = None
    deadline_ms: float | None = None
    model: str | None = None
    read_row: ReadRow | None = None


class EncodedRequest(msgspec.Struct, frozen=True):
    """A request as the model takes it, for n candidates.

    Attributes:
        ad_ids: n ad ids in the request's order; an id can occur more than once.
        request_ids, request_floats: int32 [1, ids of user and context], float32 [1, their numbers].
        candidate_ids, candidate_floats: int32 [n, …], float32 [n, …].
        pair_ids: int32 [n, …], crosses of the request's values with the candidate's.
        keys: uint64 [n, 2], 128-bit keys of all values above. Rows with equal keys have equal ids and equal numbers
            (rounded to 1/32 of their standard deviation), so they share one score of a model version.
        ad_keys: uint64 [n], keys of the candidates' own values.
        request_numbers, candidate_numbers: for a foreign model float64 [1, 2 k] and [n, 2 k], the k numbers as in the
            request, then what float64 cannot hold of integers; otherwise None.
        request_texts, candidate_texts: the same for texts and parts of Examples, bytes [1, …] and [n, …].
        consent_denied: whether the request denies the use of its user's data; then no user feature has a value.
        unknown, position: of the table of ads: bool [n], the ads that it does not contain (None: it contains all).
    """

    ad_ids: Sequence[str]
    request_ids: I32
    request_floats: F32
    candidate_ids: I32
    candidate_floats: F32
    pair_ids: I32
    keys: U64
    ad_keys: U64
    request_numbers: F64 | None = None
    candidate_numbers: F64 | None = None
    consent_denied: bool = False
    request_texts: Texts | None = None
    candidate_texts: Texts | None = None
    unknown: Mask | None = None
    position: TablePosition | None = None

    @property
    def size(self) -> int:
        """Number of candidates."""
        return len(self.ad_ids)


class BatchInputs(msgspec.Struct, frozen=True):
    """Rows of one or more requests as the `score` signature takes them.

    Attributes:
        request_ids, request_floats: [r, …], one row per request.
        candidate_ids, candidate_floats, pair_ids: [n, …], one row per candidate.
        row_to_request: int32 [n], the request row of each candidate, less than r.
        request_numbers, candidate_numbers, request_texts, candidate_texts: [r, …] and [n, …]; only foreign models.
    """

    request_ids: I32
    request_floats: F32
    candidate_ids: I32
    candidate_floats: F32
    pair_ids: I32
    row_to_request: I32
    request_numbers: F64 | None = None
    candidate_numbers: F64 | None = None
    request_texts: Texts | None = None
    candidate_texts: Texts | None = None

    @classmethod
    def whole(cls, encoded: EncodedRequest) -> "BatchInputs":
        """All candidates of one request, in its order."""
        same = {f.name: getattr(encoded, f.name) for f in msgspec.structs.fields(cls) if f.name != "row_to_request"}
        return cls(row_to_request=np.zeros(encoded.size, dtype=np.int32), **same)

    @property
    def rows(self) -> int:
        """Number of candidates."""
        return len(self.row_to_request)


class TensorInfo(NamedTuple):
    """A tensor of a signature: its dtype's name, and its sizes (-1 if variable; None: any rank)."""

    dtype: str
    dims: tuple[int, ...] | None


class SignatureInfo(NamedTuple):
    """The inputs and outputs of a signature by name; a call may omit inputs in `defaults`."""

    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]
    defaults: frozenset[str] = frozenset()


class StageTimes(msgspec.Struct, frozen=True):
    """Milliseconds of one request in each stage; `total` is the time from receipt to answer."""

    decode: float = 0.0
    encode: float = 0.0
    queue: float = 0.0
    predict: float = 0.0
    total: float = 0.0


class ScoreMessage(msgspec.Struct, frozen=True):
    """The answer to one request.

    Attributes:
        ad_ids, ctr, sources: columns of n candidates in the request's order; ctr float32 in [0, 1], sources int8
            indices into `SOURCES`. All None when `status` is `expired` or `invalid`.
        reason: the error of an `invalid` request; why scores are missing in a `partial` or `fallback` answer.
        batch_rows: rows of the largest batch with candidates of this request; 0 without a batch.
        cause: of an answer without scores; it is not published.
        position: that of the table of ads, if the scores were computed with one, or an ad was looked for in one.
    """

    request_id: str
    status: Status
    origin: Origin
    model: ModelVersion | None = None
    ad_ids: Sequence[str] | None = None
    ctr: F32 | None = None
    sources: I8 | None = None
    reason: str | None = None
    times: StageTimes = StageTimes()
    batch_rows: int = 0
    cause: Cause | None = None
    position: TablePosition | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record without an answer: its request id is unreadable, or its answer unpublishable.

    `stage` has failed; `reason` names the field; `timestamp_ms`: the record's own, milliseconds since the epoch.
    """

    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]
    origin: Origin
    timestamp_ms: int
    stage: str
    reason: str
