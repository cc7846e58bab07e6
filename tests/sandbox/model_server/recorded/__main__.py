"""Replays recorded calls on a server, prints each difference and the counts."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import typer

from tests.sandbox.model_server.recorded.exceptions import EXCEPTIONS
from tests.sandbox.model_server.recorded.recording import recording
from tests.sandbox.model_server.recorded.replay import replay
from tests.sandbox.model_server.recorded.servers import build_models

OWN = Path("build", "recorded_models").absolute()
STAND_IN = (sys.executable, "-m", "sandbox.model_server")


def main() -> int:
    """Exit status 1 if a call that is no exception differs, or an exception holds."""
    parser = argparse.ArgumentParser(prog="python -m tests.sandbox.model_server.recorded", description=__doc__)
    parser.add_argument("scenarios", nargs="*", help="scenarios of the recording; default: all")
    parser.add_argument("--server", default=os.environ.get("MODEL_SERVER"), help="a server; default: the stand-in")
    options = parser.parse_args()
    command = (options.server,) if options.server else STAND_IN
    build_models(OWN)
    held, wrong = 0, 0
    for name in options.scenarios or recording().scenarios:
        with tempfile.TemporaryDirectory() as folder:
            for number, difference in replay(name, command, Path(folder), OWN):
                held += difference is None
                if (difference is None) is (number in EXCEPTIONS):
                    wrong += 1
                    typer.echo(f"{name} {number}: {difference or 'holds, but is listed as an exception'}")
    typer.echo(f"{held} calls hold; {wrong} are not as stated")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
