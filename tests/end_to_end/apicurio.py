"""Apicurio Registry, from Maven Central, as a child process: a registry with Confluent's API."""

import http.client
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sandbox.host.parent import parent_bound_command
from tests.docs.worked_examples import ROOT
from tests.toolchains import needs

VERSION = "2.6.13.Final"
"""The newest one for Java 17; its successors need Java 21."""
_FOLDER = ROOT / "build" / "schema-registry" / VERSION
_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
_START_S = 300.0
_PATH = "/apis/ccompat/v7"


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """The URL of a registry in memory, for Confluent's clients; its log is in `folder`."""
    needs("java", "mvn")
    jar = _fetched()
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    options = ["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    options += [f"-Dquarkus.http.port={port}", "-Dquarkus.http.host=127.0.0.1"]
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen(
            parent_bound_command(["java", *options, "-jar", str(jar)]), stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait(process, port, folder / "registry.log")
        yield f"http://127.0.0.1:{port}{_PATH}"
    finally:
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            try:
                connection.request("GET", f"{_PATH}/subjects")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        assert time.monotonic() < deadline, log.read_text(errors="replace")[-3000:]
        time.sleep(0.2)


def _fetched() -> Path:
    """The program, which Maven fetches once (142 MB)."""
    jar = _FOLDER / f"apicurio-registry-app-{VERSION}-runner.jar"
    if not jar.exists():
        _FOLDER.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_FOLDER.parent) as folder:
            artifact = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
            command = ["mvn", "-q", "-B", _PLUGIN, f"-Dartifact={artifact}", f"-DoutputDirectory={folder}"]
            subprocess.run(command, check=True, timeout=900, cwd=folder)
            (archive,) = Path(folder).glob("*.tar.gz")
            with tarfile.open(archive) as files:
                files.extractall(f"{folder}/app", filter="data")
            shutil.rmtree(_FOLDER, ignore_errors=True)
            os.replace(f"{folder}/app", _FOLDER)  # noqa: PTH105
    return jar
