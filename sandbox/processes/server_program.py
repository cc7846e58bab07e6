"""The program that serves models: TensorFlow Serving's binary, or the stand-in."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sandbox.errors import SandboxError

VARIABLE = "MODEL_SERVER"
STAND_IN = "stand-in"
_BINARY = "tensorflow_model_server"
_VERSION_S = 60.0
_SAYS_STAND_IN = f": {STAND_IN} of "


class ServerProgramError(SandboxError):
    """`MODEL_SERVER` names no program that runs; the message has the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class ServerProgram:
    """A program that takes the flags of tensorflow_model_server.

    Attributes:
        command: the first words of its command line.
        version: its answer to `--version` on one line; `stand-in` for the stand-in.
    """

    command: tuple[str, ...]
    version: str


def server_program(environment: Mapping[str, str] = os.environ) -> ServerProgram:
    """The program of `MODEL_SERVER`, else the binary on the PATH, else the stand-in.

    An empty `MODEL_SERVER`, and `MODEL_SERVER=stand-in`, select the stand-in.

    Raises:
        ServerProgramError: `MODEL_SERVER` is no executable file, or the program does not answer `--version`.
    """
    chosen = environment.get(VARIABLE)
    found = shutil.which(chosen or _BINARY, path=environment.get("PATH"))
    if chosen in ("", STAND_IN) or (chosen is None and found is None):
        return ServerProgram((sys.executable, "-m", "sandbox.model_server"), STAND_IN)
    if found is None:
        fault = "is not executable" if Path(chosen or "").exists() else "does not exist"
        raise ServerProgramError(f"{VARIABLE}={chosen}: the file {fault}; {_REMEDY}")
    path = str(Path(found).absolute())
    version = _version(path)
    return ServerProgram((path,), STAND_IN if _SAYS_STAND_IN in version else version)


_REMEDY = f"give the path of {_BINARY}, or {VARIABLE}={STAND_IN}"


@cache
def _version(path: str) -> str:
    try:
        answer = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_VERSION_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ServerProgramError(f"{path} --version: {error}; {_REMEDY}") from error
    lines = answer.stdout.decode(errors="replace").split("\n")
    return ", ".join(filter(None, map(str.strip, lines))) or "no version"
