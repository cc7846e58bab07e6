"""Makes what a peer needs, once: a virtual environment, or the jars of the Java one."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.catalogue import KAFKA_STREAMS, Peer
from sandbox.host.parent import parent_bound_command

FOLDER = Path("build/peers")
_HERE = Path(__file__).parent
_PROTOS = _HERE / "protos"
_TIMEOUT_S = 900.0
_JAVA_OPTIONS = ("-Xms256m", "-Xmx256m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")


class PeerError(Exception):
    """A peer cannot be installed on this machine; the message names the peer and the reason."""


def requirements_of(peer: Peer) -> Path:
    """The exact versions of all packages of a Python peer."""
    return _HERE / "requirements" / f"{peer.name}.txt"


def command_of(peer: Peer, folder: Path = FOLDER) -> list[str]:
    """The command of a peer without its arguments; the first call installs it in `folder`.

    Raises:
        PeerError: an installer is missing, fails, or takes more than 15 minutes.
    """
    home = (folder / peer.name).absolute()
    marker = home / ".ready"
    wanted = _digest(peer)
    if not marker.is_file() or marker.read_text() != wanted:
        shutil.rmtree(home, ignore_errors=True)
        home.parent.mkdir(parents=True, exist_ok=True)
        for step in _steps(peer, home):
            _run(peer, step)
        marker.write_text(wanted)
    if peer == KAFKA_STREAMS:
        jar = next(home.glob("*.jar"))
        return ["java", *_JAVA_OPTIONS, "-cp", f"{jar}:{home / 'libs'}/*", "peer.Main"]
    return [str(home / "bin" / "python"), "-m", f"benchmarks.peers.{peer.name}"]


def _steps(peer: Peer, home: Path) -> Sequence[Sequence[str]]:
    if peer == KAFKA_STREAMS:
        pom = _HERE / peer.name / "pom.xml"
        return [["mvn", "-q", "-B", "--no-transfer-progress", "-f", str(pom), "package", f"-Dpeer.directory={home}"]]
    python = str(home / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    packages = home / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    protoc = [python, "-m", "grpc_tools.protoc", f"-I{_PROTOS}", f"--python_out={packages}"]
    return [
        [sys.executable, "-m", "venv", str(home)],
        [*pip, "-r", str(requirements_of(peer))],
        [*protoc, *(path.name for path in _PROTOS.glob("*.proto"))],
    ]


def _run(peer: Peer, command: Sequence[str]) -> None:
    if shutil.which(command[0]) is None:
        raise PeerError(f"{peer.title} cannot be installed: no `{command[0]}` on PATH")
    try:
        done = subprocess.run(
            parent_bound_command(list(command)), capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise PeerError(f"{peer.title} cannot be installed: {command[0]} took more than {_TIMEOUT_S:.0f} s") from None
    if done.returncode:
        errors = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line or "Error" in line]
        raise PeerError(f"{peer.title} cannot be installed: {(errors or [f'exit status {done.returncode}'])[0]:.300}")


def _digest(peer: Peer) -> str:
    """Of everything that is installed, so that a change installs it again."""
    files = [*_PROTOS.iterdir(), requirements_of(peer)]
    if peer == KAFKA_STREAMS:
        files = [*_PROTOS.iterdir(), *(path for path in (_HERE / peer.name).rglob("*") if path.is_file())]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()
