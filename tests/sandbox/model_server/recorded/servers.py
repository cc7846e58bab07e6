"""Starts a server as it was started for a scenario."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sandbox.host.ports import accepts, free_ports
from sandbox.model_server.lean_tensorflow import lean_tensorflow
from tests.sandbox.model_server.recorded.recording import Places, Scenario, recording

with lean_tensorflow():
    import tensorflow_serving.apis.predict_pb2  # noqa: F401  # before any other import of these messages

_START_S = 120.0
PORTS = ("port", "rest_port", "port2", "rest_port2")


def build_models(folder: Path) -> None:
    """Runs the recording's program for the models that the test data lacks, if `folder` does not exist yet."""
    if folder.exists():
        return
    program = folder.with_suffix(".py")
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(recording().models_program)
    partial = folder.with_suffix(f".{os.getpid()}")
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
    subprocess.run([sys.executable, program, partial], env={**os.environ, **quiet}, timeout=600, check=True)
    partial.rename(folder)


def places(tmp: Path, own: Path) -> Places:
    """Places with free ports."""
    return Places(tmp, own, dict(zip(PORTS, free_ports(len(PORTS)), strict=True)))


def copy(source: Path, target: Path) -> None:
    """Copies a folder beside its place, then renames it into place."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.copytree(source, partial, copy_function=shutil.copyfile)
    partial.chmod(0o755)
    partial.rename(target)


@contextmanager
def started(scenario: Scenario, at: Places, command: Sequence[str]) -> Iterator[None]:
    """The server of a scenario, ready; killed at the end.

    `command` is the program without flags. Raises AssertionError, with the log, if it is not ready in time.
    """
    for target, source in scenario.copies.items():
        path = Path(at.filled(target))
        path.parent.mkdir(parents=True, exist_ok=True)
        copy(Path(at.filled(source)), path)
    for name, text in scenario.files.items():
        path = Path(at.filled(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(at.filled(text))
    flags = [at.filled(flag) for flag in scenario.flags]
    log = at.tmp / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen([*command, *flags], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        wanted = [at.ports["port"]]
        if any(flag.startswith("--rest_api_port=") for flag in flags):
            wanted.append(at.ports["rest_port"])
        deadline = time.monotonic() + _START_S
        while not all(map(accepts, wanted)):
            ended = process.poll()
            assert ended is None, f"the server ended with {ended}:\n{log.read_text(errors='replace')[-3000:]}"
            assert time.monotonic() < deadline, f"not ready:\n{log.read_text(errors='replace')[-3000:]}"
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()
