"""Replays recorded calls on a server, prints each difference and the counts."""

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import typer

from sandbox.processes.server_program import STAND_IN as STAND_IN_VERSION
from sandbox.processes.server_program import VARIABLE, server_program
from tests.sandbox.model_server.recorded.exceptions import EXCEPTIONS
from tests.sandbox.model_server.recorded.lifecycle import replay_lifecycle
from tests.sandbox.model_server.recorded.lifecycle_exceptions import LIFECYCLE_EXCEPTIONS
from tests.sandbox.model_server.recorded.recording import recording
from tests.sandbox.model_server.recorded.replay import replay
from tests.sandbox.model_server.recorded.servers import build_models

OWN = Path("build", "recorded_models").absolute()
LIFECYCLES = "lifecycles"
STAND_IN = server_program({VARIABLE: STAND_IN_VERSION}).command


def main() -> int:
    """Exit status 1 if a call that is no exception differs, or an exception holds.

    The exceptions are those of the stand-in.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.sandbox.model_server.recorded", description=__doc__)
    parser.add_argument("scenarios", nargs="*", help="scenarios of the recording, or `lifecycles`; default: all")
    parser.add_argument("--server", default=os.environ.get(VARIABLE, ""), help="a server; default: the stand-in")
    options = parser.parse_args()
    program = server_program({**os.environ, VARIABLE: options.server})
    excepted = {*EXCEPTIONS, *LIFECYCLE_EXCEPTIONS} if program.version == STAND_IN_VERSION else set()
    build_models(OWN)
    held, wrong = 0, 0
    for name, number, difference in _replayed(
        options.scenarios or [*recording().scenarios, LIFECYCLES], program.command
    ):
        held += difference is None
        if (difference is None) is (number in excepted):
            wrong += 1
            typer.echo(f"{name} {number}: {difference or 'holds, but is listed as an exception'}")
    typer.echo(f"{held} calls hold; {wrong} are not as stated")
    return 1 if wrong else 0


def _replayed(names: Sequence[str], command: Sequence[str]) -> Iterator[tuple[str, str, str | None]]:
    """Scenario, id and difference of each call; a lifecycle is a call."""
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            if name != LIFECYCLES:
                for number, difference in replay(name, command, Path(folder), OWN):
                    yield name, number, difference
                continue
            # Several at the same time: most of their time is waiting.
            with ThreadPoolExecutor(4) as pool:
                replays = {}
                for call in recording().lifecycles():
                    (tmp := Path(folder, call["id"])).mkdir()
                    replays[call["id"]] = pool.submit(replay_lifecycle, call, command, tmp, OWN)
                for number, replayed in replays.items():
                    yield name, number, replayed.result()


if __name__ == "__main__":
    raise SystemExit(main())
