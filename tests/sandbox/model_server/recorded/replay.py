"""Replays the calls of one scenario."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.sandbox.model_server.recorded import grpc_calls, rest_calls
from tests.sandbox.model_server.recorded.recording import recording
from tests.sandbox.model_server.recorded.servers import places, started


def replay(name: str, command: Sequence[str], tmp: Path, own: Path) -> Iterator[tuple[str, str | None]]:
    """Ids of a scenario's gRPC and REST calls, in the file's order, each with its difference (None: it holds).

    `command` is the server's program; `tmp` an empty folder; `own` the folder of the recording's models.
    """
    at = places(tmp, own)
    with started(recording().scenarios[name], at, command):
        channel = grpc_calls.open_channel(f"127.0.0.1:{at.ports['port']}")
        try:
            for call in recording().of_scenario(name):
                time.sleep(call.get("before_s", 0))
                if call["kind"] == "grpc":
                    difference = grpc_calls.difference(call, grpc_calls.outcome(call, channel, at), at)
                else:
                    difference = rest_calls.difference(call, rest_calls.outcome(call, at.ports["rest_port"], at), at)
                yield call["id"], difference
        finally:
            channel.close()
