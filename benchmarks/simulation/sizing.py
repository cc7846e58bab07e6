"""Sizes of a fleet and their cost, from the measured costs per request. Pure."""

import math
from dataclasses import dataclass

from benchmarks.simulation.costs import Costs
from streamer.settings.sections import BatchingSettings

PRICE = 0.0425
"""US dollars per virtual core and hour.

An assumption: the on-demand list price of an Amazon EC2 c5.2xlarge in US East (0.34 dollars, 8 virtual cores), from the
user guide of EC2 Auto Scaling. Other machines, reservations and spot capacity have other prices.
"""
REPLICAS = 3
"""Copies of each record in the brokers."""
_HOUR_S, _MILLION = 3600.0, 1e6


@dataclass(frozen=True, slots=True)
class Size:
    """What a rate of requests takes.

    Attributes:
        worker_load, server_load: of the busy cores, as shares.
        worker_cores, server_cores, broker_cores: a worker has one core.
        topic_bytes: bytes per second that producers send; broker_in and broker_out are those of all brokers, copies
            included; rpc_bytes are those of the calls to the model servers.
        memory_gb: of workers and model servers.
        dollars: per hour; million: per million requests.
    """

    rate: float
    worker_load: float
    server_load: float
    worker_cores: int
    server_cores: int
    broker_cores: int
    topic_bytes: float
    broker_in: float
    broker_out: float
    rpc_bytes: float
    memory_gb: float
    dollars: float

    @property
    def million(self) -> float:
        """Dollars per million requests."""
        return self.dollars / (self.rate * _HOUR_S) * _MILLION


def server_s(costs: Costs, candidates: int, batch: float) -> float:
    """CPU seconds of a model server for a request, in calls of `batch` requests."""
    batch = min(batch, BatchingSettings().max_batch_rows / candidates)
    return costs.call_s(batch * candidates) / batch


def servers_for(costs: Costs, workers: int, cores: int, *, batch: float = 1.0) -> int:
    """The fewest servers of `cores` cores that are no busier than the workers."""
    return math.ceil(workers * server_s(costs, costs.candidates, batch) * costs.worker_rate / cores)


def size_of(
    costs: Costs,
    rate: float,
    *,
    load: float,
    batch: float,
    server_cores: int,
    columns: bool = True,
    price: float = PRICE,
    candidates: int = 300,
) -> Size:
    """The fleet for a rate.

    Every core is busy for a share `load` of the time; `batch`: requests of a call.
    """
    other = costs.other
    worker_s = costs.requests_s(1, candidates) - costs.requests_s(0, candidates) * (1 - 1 / max(1.0, batch))
    workers = _whole(rate * worker_s / load)
    served_s = server_s(costs, candidates, batch)
    servers = _whole(rate * served_s / load / server_cores)
    brokers = _whole(rate * other.broker_ms / 1e3 / load)
    request = (other.columns_bytes if columns else other.rows_bytes) * candidates / costs.candidates
    answer = other.answer_bytes * candidates / costs.candidates
    memory = workers * costs.scorer.resident_mb + servers * costs.server.resident_mb
    cores = workers + servers * server_cores + brokers
    return Size(
        rate=rate,
        worker_load=rate * worker_s / workers,
        server_load=rate * served_s / (servers * server_cores),
        worker_cores=workers,
        server_cores=servers * server_cores,
        broker_cores=brokers,
        topic_bytes=rate * (request + answer),
        broker_in=rate * (request + answer) * REPLICAS,
        broker_out=rate * (request + answer) * REPLICAS,  # to the followers, and once to a consumer
        rpc_bytes=rate * costs.server.request_bytes * candidates / costs.candidates,
        memory_gb=memory / 1024,
        dollars=cores * price,
    )


def _whole(number: float) -> int:
    """Rounded up, apart from errors of the arithmetic."""
    return math.ceil(round(number, 6))
