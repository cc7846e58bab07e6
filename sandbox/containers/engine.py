"""Podman with its own storage, and Docker Compose on podman's API."""

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

from sandbox.containers.errors import ContainerError

ROOT = Path(__file__).parents[2]
PROJECT = "ctr-streamer"
_TAIL = 3000
_SERVICE_START_S = 30.0
_NOFILE, _NPROC = 65_536, 4_096


def run_program(command: Sequence[str], environment: Mapping[str, str], timeout_s: float, cwd: Path = ROOT) -> str:
    """Standard output of a program.

    Raises:
        ContainerError: it cannot be started, failed, or took longer than `timeout_s`.
    """
    name = " ".join(command[:3])
    try:
        done = subprocess.run(
            command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise ContainerError(f"{name} took longer than {timeout_s:.0f} s") from None
    except OSError as error:
        raise ContainerError(f"{name} cannot be started: {error}") from error
    if done.returncode != 0:
        raise ContainerError(f"{name} failed ({done.returncode}):\n{(done.stdout + done.stderr)[-_TAIL:]}")
    return done.stdout


@dataclass(frozen=True, slots=True)
class Engine:
    """Podman with its own images, containers, volumes and networks, in `folder`.

    Images stay there as a cache; `make clean` removes it.
    """

    folder: Path

    @property
    def socket(self) -> Path:
        return self.folder / "run" / "podman.sock"

    @property
    def environment(self) -> dict[str, str]:
        """Variables of podman: those of this process, and the files of `configure`."""
        return {
            **os.environ,
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
        }

    def configure(self) -> None:
        """Writes the files of settings, with limits that this process may set."""
        (self.folder / "run").mkdir(parents=True, exist_ok=True)
        nofile, nproc = _limit(resource.RLIMIT_NOFILE, _NOFILE), _limit(resource.RLIMIT_NPROC, _NPROC)
        runtime = 'runtime = "runc"\n' if shutil.which("runc") else ""
        (self.folder / "containers.conf").write_text(
            f'[containers]\ndefault_ulimits = ["nofile={nofile}:{nofile}", "nproc={nproc}:{nproc}"]\n'
            f'[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n{runtime}'
            f'compat_api_enforce_docker_hub = false\ntmp_dir = "{self.folder}/run/libpod"\n'
            f'[network]\nnetwork_config_dir = "{self.folder}/networks"\n'
        )
        (self.folder / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{self.folder}/storage"\nrunroot = "{self.folder}/run"\n'
        )

    def podman(self, *arguments: str, timeout_s: float = 120.0) -> str:
        """Standard output of podman. Raises ContainerError."""
        return run_program(["podman", *arguments], self.environment, timeout_s)

    def succeeds(self, *arguments: str, timeout_s: float = 120.0) -> bool:
        """Whether a podman command ends with status 0."""
        try:
            self.podman(*arguments, timeout_s=timeout_s)
        except ContainerError:
            return False
        return True

    def runs(self, name: str) -> bool:
        """Whether a container runs; False also if there is none."""
        return name in self.podman("ps", "--format", "{{.Names}}").split()

    def logs(self, name: str) -> str:
        """The tail of a container's output; empty if there is no such container."""
        command = ["podman", "logs", "--tail", "20", name]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        return (done.stdout + done.stderr)[-_TAIL:]

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Podman's API on `socket`, until the end of the block. Raises ContainerError."""
        self.socket.unlink(missing_ok=True)
        with (self.folder / "service.log").open("wb") as log:
            process = subprocess.Popen(
                ["podman", "system", "service", "--time", "0", f"unix://{self.socket}"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # Ctrl-C must not end it before the containers are removed
            )
        try:
            deadline = time.monotonic() + _SERVICE_START_S
            while not self.socket.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise ContainerError(f"podman's API does not start: see {self.folder / 'service.log'}")
                time.sleep(0.1)
            yield
        finally:
            process.terminate()
            process.wait()


def _limit(name: int, most: int) -> int:
    hard = resource.getrlimit(name)[1]
    return most if hard == resource.RLIM_INFINITY else min(most, hard)


def compose_program() -> str:
    """Path of Docker Compose, first in this environment. Raises ContainerError."""
    own = Path(sys.executable).parent / "docker-compose"
    found = str(own) if own.exists() else shutil.which("docker-compose")
    if found is None:
        raise ContainerError("no docker-compose: run `make setup`")
    return found


@dataclass(frozen=True, slots=True)
class Compose:
    """Docker Compose on an engine's API.

    Attributes:
        files: compose files; the later ones extend the first.
        variables: the variables of the shell that the file reads.
    """

    engine: Engine
    files: tuple[Path, ...] = (ROOT / "docker-compose.yml",)
    variables: Mapping[str, str] | None = None

    def run(self, *arguments: str, timeout_s: float = 300.0) -> str:
        """Standard output of one command. Raises ContainerError."""
        files = [word for file in self.files for word in ("--file", str(file))]
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.engine.folder),
            "DOCKER_HOST": f"unix://{self.engine.socket}",
            **(self.variables or {}),
        }
        command = [compose_program(), "--progress", "quiet", "--project-directory", str(ROOT), *files, *arguments]
        return run_program(command, environment, timeout_s)

    def canonical(self) -> dict[str, object]:
        """The project in the form of `docker compose config`: merges resolved, defaults filled."""
        found: dict[str, object] = orjson.loads(self.run("config", "--format", "json"))
        return found


def container(service: str) -> str:
    """The name that Docker Compose gives to the container of a service."""
    return f"{PROJECT}-{service}-1"
