"""The measured costs: `calibration.json`, which `benchmarks.simulate --calibrate` writes."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from sandbox.world.population import F64

CALIBRATION = Path(__file__).with_name("calibration.json")


@dataclass(frozen=True, slots=True)
class ScorerCosts:
    """CPU of one worker, in ms (per candidate in µs).

    Attributes:
        chunk_ms: of a chunk of records that is read, and of its answers, whatever their number.
        call_ms: of a call, whatever its rows.
        request_ms, candidate_us: of each request and of each candidate, from the fetch to the sent answer.
        expired_ms: of a request that expired before it was read.
        idle: of all processes of a scorer without requests, as a share of a core.
        start_s: of the start of a process.
        resident_mb: memory of a worker under load.
    """

    chunk_ms: float
    call_ms: float
    request_ms: float
    candidate_us: float
    expired_ms: float
    idle: float
    start_s: float
    resident_mb: float


@dataclass(frozen=True, slots=True)
class ServerCosts:
    """CPU of a model server.

    Attributes:
        call_ms, row_us: of each call and of each row.
        round_trip_ms: time of a call that is neither CPU of the server nor of the scorer.
        spread: times of a call over their median, at equally distant quantiles from 0 to 1.
        load_s: of the loading of a version.
        resident_mb: memory of a server with one version.
        request_bytes: of a call for one request.
    """

    call_ms: float
    row_us: float
    round_trip_ms: float
    spread: Sequence[float]
    load_s: float
    resident_mb: float
    request_bytes: float


@dataclass(frozen=True, slots=True)
class OtherCosts:
    """CPU of the programs around the scorer per request, in ms; and bytes.

    Attributes:
        bidder_ms, broker_ms, ranker_ms: under traffic, in which each request is sent and fetched on its own.
        backlog_broker_ms, backlog_reader_ms: while a scorer processes a backlog.
        broker_idle: of a broker without requests, as a share of a core.
        in_ms, out_ms: time from a bidder to a worker, and from a worker to a ranker, that is no CPU of these programs.
        rows_bytes, columns_bytes: of a request as rows and as columns; answer_bytes: of its answer.
    """

    bidder_ms: float
    broker_ms: float
    ranker_ms: float
    backlog_broker_ms: float
    backlog_reader_ms: float
    broker_idle: float
    in_ms: float
    out_ms: float
    rows_bytes: float
    columns_bytes: float
    answer_bytes: float


@dataclass(frozen=True, slots=True)
class Costs:
    """All measured costs, for requests of `candidates` candidates.

    Attributes:
        machine: the processor on which they were measured; server_program: the model server.
    """

    machine: str
    server_program: str
    candidates: int
    scorer: ScorerCosts
    server: ServerCosts
    other: OtherCosts

    def requests_s(self, requests: int, candidates: int) -> float:
        """CPU seconds of a worker for one chunk of so many requests, in one call."""
        scorer = self.scorer
        each_ms = scorer.request_ms + candidates * scorer.candidate_us / 1e3
        return (scorer.chunk_ms + scorer.call_ms + requests * each_ms) / 1e3

    @property
    def worker_rate(self) -> float:
        """Requests per second of a worker that is never idle and calls each request alone."""
        return 1 / self.requests_s(1, self.candidates)

    def call_s(self, rows: float) -> float:
        """CPU seconds of a model server for a call."""
        return (self.server.call_ms + rows * self.server.row_us / 1e3) / 1e3

    def spread(self) -> F64:
        """The quantiles of a call's time over its mean, float64 [n]."""
        found = np.array(self.server.spread, dtype=np.float64)
        relative: F64 = found / found.mean()
        return relative


def read(path: Path = CALIBRATION) -> Costs:
    """The costs in a file.

    Raises:
        OSError, ValueError, TypeError, KeyError: the file is missing or was not written by `write`.
    """
    held = json.loads(path.read_text())
    return Costs(
        machine=held["machine"],
        server_program=held["server_program"],
        candidates=held["candidates"],
        scorer=ScorerCosts(**held["scorer"]),
        server=ServerCosts(**held["server"]),
        other=OtherCosts(**held["other"]),
    )


def write(costs: Costs, path: Path = CALIBRATION) -> None:
    """Writes the costs to a file."""
    path.write_text(json.dumps(_rounded(asdict(costs)), indent=2) + "\n")


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {key: _rounded(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(held) for held in value]
    return round(value, 4) if isinstance(value, float) else value
