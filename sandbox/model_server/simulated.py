"""A simulated model server: a call takes a fixed time plus a time per row, and no CPU time.

It computes no model. It measures a scorer (overload, replicas, cache) without a real model that competes for the same
cores, and with a known capacity. Such figures say nothing about TensorFlow Serving.
`python -m sandbox.model_server.simulated --spec SPEC.yaml --fixed-ms 4 --per-row-us 10`.
"""

import argparse
import asyncio
import heapq
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

import grpc
import grpc.aio
import numpy as np
import uvloop

from sandbox.host.loopback import DIRECT
from sandbox.model_server.replies import Context, handlers
from streamer.features import FeatureSpec
from streamer.serving.protos import types_pb2
from streamer.serving.replies import metadata_reply, scores_reply, spec_reply, status_reply
from streamer.types import F32

_SERVICE = "sandbox.SimulatedServer"
_MAX_MESSAGE_BYTES = 64 * 2**20
_CONTROL_S = 60.0
_SLOW_S = 1.0
_LOWEST, _STEP, _STEPS = np.float32(0.01), np.float32(0.001), 97


Fault = Literal["none", "slow", "rows", "nan", "dtype", "refused"]
"""Fault of `score`: 1 s of delay, one score too many, NaN in half of the scores, doubles, an error status."""


@dataclass(slots=True)
class SimulatedServer:
    """Answers `score` and `feature_spec` of one spec (JSON) under any model name.

    - `workers` calls at the same time take `fixed_s + per_row_s · rows` each. Other calls wait in order of arrival;
      with `rejects` they fail with RESOURCE_EXHAUSTED at once, as above `--grpc_max_threads` of TensorFlow Serving.
    - As in a real server, an accepted call is completed even if its caller has cancelled it, so cancelled calls waste
      capacity.
    - `calls` is the number of `score` calls; `fault` is their current fault.
    """

    spec: str
    fixed_s: float
    per_row_s: float
    workers: int = 1
    rejects: bool = False
    version: int = 1
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    calls: int = 0
    fault: Fault = "none"
    _free_at: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self._free_at = [0.0] * self.workers

    async def predict(self, request: Any, context: Context) -> Any:
        """A PredictResponse; status NOT_FOUND or INVALID_ARGUMENT for another version or signature."""
        model = request.model_spec
        if model.HasField("version") and model.version.value != self.version:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found: version {model.version.value}")
        if model.signature_name == "feature_spec":
            return spec_reply(self.spec)
        if model.signature_name != "score" or "row_to_request" not in request.inputs:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"no signature {model.signature_name!r} of that form")
        rows = request.inputs["row_to_request"].tensor_shape.dim[0].size
        now = asyncio.get_running_loop().time()
        if self.rejects and self._free_at[0] > now:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")
        self.calls += 1
        await self.sleep(self.accept(rows, now))
        if self.fault == "slow":
            await self.sleep(_SLOW_S)
        if self.fault == "refused":
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the batch scheduling queue is full")
        return _reply(_scores(request, rows), self.fault)

    def accept(self, rows: int, now: float) -> float:
        """Assigns a call to the first free worker; returns the seconds until it is complete."""
        done = max(now, self._free_at[0]) + self.fixed_s + self.per_row_s * rows
        heapq.heapreplace(self._free_at, done)
        return done - now

    def resize(self, workers: int) -> None:
        """Changes the number of calls at the same time; active ones are completed."""
        latest = sorted(self._free_at, reverse=True)
        self._free_at = sorted([*latest, *[0.0] * workers][:workers])

    def stall(self, now: float, seconds: float) -> None:
        """Delays all active and waiting calls by `seconds`."""
        self._free_at = [max(now, free) + seconds for free in self._free_at]

    async def metadata(self, _: Any, __: Context) -> Any:
        """A GetModelMetadataResponse."""
        return metadata_reply(self.spec)

    async def status(self, _: Any, __: Context) -> Any:
        """A GetModelStatusResponse."""
        return status_reply((self.version,))

    async def count(self, _: bytes, __: Context) -> bytes:
        """The number of `score` calls, as decimal digits."""
        return str(self.calls).encode()

    async def set_fault(self, name: bytes, context: Context) -> bytes:
        """Sets the fault of `score`. Status INVALID_ARGUMENT for an unknown fault."""
        fault = name.decode()
        if fault not in get_args(Fault):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"unknown fault {fault!r}")
        self.fault = cast(Fault, fault)
        return b""

    def listen(self, port: int) -> tuple[grpc.aio.Server, int]:
        """A gRPC server on 127.0.0.1, not started yet, and its port; port 0 chooses a free port."""
        limits = [(f"grpc.max_{way}_message_length", _MAX_MESSAGE_BYTES) for way in ("send", "receive")]
        server = grpc.aio.server(options=limits)
        control = {
            "Calls": grpc.unary_unary_rpc_method_handler(self.count),
            "SetFault": grpc.unary_unary_rpc_method_handler(self.set_fault),
        }
        server.add_generic_rpc_handlers((*handlers(self), grpc.method_handlers_generic_handler(_SERVICE, control)))
        return server, server.add_insecure_port(f"127.0.0.1:{port}")


def calls_of(address: str) -> int:
    """The number of `score` calls of a running simulated server since its start.

    Raises:
        grpc.RpcError: the server does not answer.
    """
    with grpc.insecure_channel(address, DIRECT) as channel:
        ask = channel.unary_unary(f"/{_SERVICE}/Calls", request_serializer=bytes, response_deserializer=bytes)
        return int(ask(b"", timeout=_CONTROL_S, wait_for_ready=True))


def set_fault(address: str, fault: Fault) -> None:
    """Sets or clears the fault of a running server.

    Raises:
        grpc.RpcError: the server does not answer.
    """
    with grpc.insecure_channel(address, DIRECT) as channel:
        tell = channel.unary_unary(f"/{_SERVICE}/SetFault", request_serializer=bytes, response_deserializer=bytes)
        tell(fault.encode(), timeout=_CONTROL_S, wait_for_ready=True)


def _reply(ctr: F32, fault: Fault) -> Any:
    """The reply with these scores, changed by the fault."""
    match fault:
        case "rows":
            return scores_reply(np.append(ctr, _LOWEST))
        case "nan":
            ctr[len(ctr) // 2 :] = np.nan
        case "dtype":
            return scores_reply(ctr, types_pb2.DT_DOUBLE)
        case _:
            pass
    return scores_reply(ctr)


def _scores(request: Any, rows: int) -> F32:
    """Scores between 1 % and 11 % that depend only on the candidate."""
    ids = np.frombuffer(request.inputs["candidate_ids"].tensor_content, dtype=np.int32)
    if not rows or not len(ids):
        return np.full(rows, _LOWEST, dtype=np.float32)
    scores: F32 = _LOWEST + _STEP * (ids.reshape(rows, -1).sum(axis=1) % _STEPS).astype(np.float32)
    return scores


async def _serve(simulated: SimulatedServer, port: int) -> None:
    server, _ = simulated.listen(port)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await server.start()
    await stop.wait()
    await server.stop(None)


def main() -> None:
    """Runs until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", type=Path, required=True, help="feature spec, YAML")
    parser.add_argument("--fixed-ms", type=float, default=0.0, help="milliseconds per call")
    parser.add_argument("--per-row-us", type=float, default=0.0, help="microseconds per row of a call")
    parser.add_argument("--workers", type=int, default=1, help="calls that run at the same time")
    parser.add_argument("--reject", action="store_true", help="reject calls above --workers instead of queueing them")
    parser.add_argument("--port", type=int, default=8500)
    arguments = parser.parse_args()
    simulated = SimulatedServer(
        FeatureSpec.from_yaml(arguments.spec).to_json(),
        fixed_s=arguments.fixed_ms / 1e3,
        per_row_s=arguments.per_row_us / 1e6,
        workers=arguments.workers,
        rejects=arguments.reject,
    )
    uvloop.run(_serve(simulated, arguments.port))


if __name__ == "__main__":
    main()
