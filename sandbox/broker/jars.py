"""Fetches Apache Kafka's jars once by Maven, into a cache folder that all processes share."""

import fcntl
import functools
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from sandbox.broker.errors import BrokerError
from sandbox.host.parent import parent_bound_command

LIBS_VARIABLE = "CTR_KAFKA_LIBS"
POM = Path(__file__).with_name("pom.xml")
_DEFAULT_LIBS = Path(__file__).parents[2] / "build" / "kafka" / "libs"
# Minutes with an empty Maven repository on a busy machine, seconds with a filled one.
_FETCH_TIMEOUT_S = 900.0
_LOG_TAIL_LINES = 25
_MINIMUM_JAVA = 17


@functools.cache
def kafka_version() -> str:
    """The version of Apache Kafka in `pom.xml`, such as "4.4.0"."""
    found = re.search(r"<artifactId>kafka_2\.13</artifactId>\s*<version>([^<]+)</version>", POM.read_text("utf-8"))
    assert found is not None, "pom.xml names no version of kafka_2.13"
    return found.group(1)


def jars_folder() -> Path:
    """The folder for the jars of this version. It exists once they are fetched."""
    return Path(os.environ.get(LIBS_VARIABLE) or _DEFAULT_LIBS).absolute() / f"kafka-{kafka_version()}"


def log_tail(text: str, lines: int = _LOG_TAIL_LINES) -> str:
    """The last lines of a log, for an error message."""
    return "\n".join(text.rstrip().splitlines()[-lines:])


@functools.cache
def _java_major(java: str) -> int | None:
    """Major version of this `java`; None if it prints no version."""
    try:
        reply = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', reply.stderr + reply.stdout)
    return int(found.group(1)) if found else None


def missing_requirement() -> str | None:
    """The first requirement of Apache Kafka that this machine does not meet, as text; else None."""
    java = shutil.which("java")
    if java is None:
        return f"no `java` on PATH (Apache Kafka {kafka_version()} needs Java {_MINIMUM_JAVA} or later)"
    major = _java_major(java)
    if major is not None and major < _MINIMUM_JAVA:
        return f"`java` on PATH is version {major}, Apache Kafka {kafka_version()} needs {_MINIMUM_JAVA} or later"
    if not jars_folder().is_dir() and shutil.which("mvn") is None:
        return f"no `mvn` on PATH to fetch Apache Kafka {kafka_version()}, and no jars in {jars_folder()}"
    return None


def prefetch(console: Console | None = None) -> Path:
    """Fetches the jars unless they exist; returns their folder.

    Several processes may call it at the same time.

    Shows one progress line on `console` (default: standard error) while Maven fetches.

    Raises:
        BrokerError: Java or Maven is missing, or Maven fails or takes longer than 15 minutes.
    """
    missing = missing_requirement()
    if missing is not None:
        raise BrokerError(f"this machine cannot run Apache Kafka: {missing}")
    folder = jars_folder()
    if folder.is_dir():  # complete by construction: a rename creates it
        return folder
    console = console or Console(stderr=True)
    deadline = time.monotonic() + _FETCH_TIMEOUT_S
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.parent / ".lock", deadline):
            if not folder.is_dir():
                started = time.monotonic()
                message = f"fetching Apache Kafka {kafka_version()} with Maven (about 45 MB)"
                if not console.is_terminal:
                    console.print(message)
                with console.status(message):
                    _fetch(folder, deadline)
                console.print(f"fetched Apache Kafka {kafka_version()} in {time.monotonic() - started:.0f} s: {folder}")
    except OSError as error:
        raise BrokerError(f"cannot store Apache Kafka's jars in {folder}: {error}") from error
    return folder


def _fetch(folder: Path, deadline: float) -> None:
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder.parent) as scratch:
        shutil.copy(POM, scratch)
        fetched = Path(scratch) / "libs"
        command = ["mvn", "--batch-mode", "--no-transfer-progress", "dependency:copy-dependencies"]
        command += [f"-DoutputDirectory={fetched}", "-DincludeScope=runtime"]
        log = Path(scratch) / "maven.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                parent_bound_command(command), cwd=scratch, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
            )
            try:
                status = process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise BrokerError(f"Maven took too long:\n{log_tail(log.read_text('utf-8', 'replace'))}") from None
            finally:
                process.kill()  # no effect after its end; necessary after Ctrl-C
                process.wait()
        if status != 0 or not (fetched / f"kafka_2.13-{kafka_version()}.jar").is_file():
            tail = log_tail(log.read_text("utf-8", "replace"))
            raise BrokerError(f"Maven could not fetch Apache Kafka {kafka_version()} (exit status {status}):\n{tail}")
        fetched.rename(folder)


@contextmanager
def _locked(path: Path, deadline: float) -> Iterator[None]:
    """Holds an exclusive lock on `path`; the kernel releases it when the process ends."""
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise BrokerError(f"another process holds {path} and has not finished fetching") from None
                time.sleep(0.1)
        yield
