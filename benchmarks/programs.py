"""Measured programs: starts them, follows their answers, measures CPU and memory."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson
import psutil
from confluent_kafka import Consumer, TopicPartition

from sandbox.processes.scorer import MALLOC, ScorerProcess
from streamer.native import SWITCH

_TIMEOUT_S = 180.0


@dataclass(frozen=True, slots=True)
class Run:
    """One program's run through a backlog.

    Attributes:
        requests_per_second: from the first counted answer to the last, by the timestamps of the records.
        cpu_ms: CPU time per request of the process and its children, user and system, without the start.
        resident_mb: largest resident memory of the process and its children during the run.
        scores: click probabilities of each scored request, by request id.
        others: CPU time per request of the other processes, milliseconds by name.
    """

    requests_per_second: float
    cpu_ms: float
    resident_mb: float
    scores: Mapping[str, npt.NDArray[np.float64]]
    others: Mapping[str, float] = field(default_factory=dict)


def follow(
    pid: int,
    bootstrap: str,
    output: str,
    requests: int,
    *,
    status: str = "ok",
    warm_up: int = 0,
    others: Mapping[str, int] | None = None,
) -> Run:
    """Waits for `requests` answers with `status` on `output`; measures the process meanwhile.

    It also measures the CPU time of `others`, process ids by name. The first `warm_up` answers
    count for neither rate nor CPU.

    Raises:
        TimeoutError: no answer arrived for three minutes.
        RuntimeError: an answer has another status, or the process exited.
    """
    process = psutil.Process(pid)
    clocks = {name: CpuClock(other) for name, other in (others or {}).items()}
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": output, "enable.auto.commit": False})
    consumer.assign([TopicPartition(output, 0, 0)])
    values: list[bytes] = []
    stamps: list[int] = []
    used, already = 0.0, 0  # when counting began
    resident = 0
    deadline = time.monotonic() + _TIMEOUT_S
    try:
        while len(values) < requests:
            messages = consumer.consume(200, timeout=0.2)
            if not already and len(values) + len(messages) > warm_up:
                used = cpu_s(process)
                for clock in clocks.values():
                    clock.restart()
                already = len(values) + len(messages)
            for message in messages:
                values.append(message.value())
                stamps.append(message.timestamp()[1])
            if messages:
                deadline = time.monotonic() + _TIMEOUT_S
            if not _is_running(process):
                raise RuntimeError(f"process {pid} exited after {len(values)} of {requests} answers on {output}")
            resident = max(resident, _resident(process))
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(values)} of {requests} answers on {output}, no answer in {_TIMEOUT_S:.0f} s")
        used = cpu_s(process) - used
        spent = {name: clock.spent_s() for name, clock in clocks.items()}
    finally:
        consumer.close()
    answers = [orjson.loads(value) for value in values]
    bad = [a for a in answers if a["status"] != status]
    if bad:
        raise RuntimeError(f"{output}: {len(bad)} answers are not {status}, the first: {str(bad[0])[:300]}")
    stamps = sorted(stamps)[warm_up:]
    return Run(
        requests_per_second=(len(stamps) - 1) / max(1e-3, (stamps[-1] - stamps[0]) / 1e3),
        cpu_ms=1e3 * used / max(1, len(values) - already),
        others={name: 1e3 * seconds / max(1, len(values) - already) for name, seconds in spent.items()},
        resident_mb=resident / 2**20,
        scores={a["request_id"]: np.array(a["ctr"]) for a in answers if a.get("ctr")},
    )


class CpuClock:
    """The CPU time of a process and its children, user and system, since `restart`."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._start_s = 0.0
        self.restart()

    def restart(self) -> None:
        """Starts to count now."""
        self._start_s = cpu_s(self._process)

    def spent_s(self) -> float:
        """Seconds since `restart`."""
        return cpu_s(self._process) - self._start_s


def _is_running(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def _resident(process: psutil.Process) -> int:
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))


def cpu_s(process: psutil.Process, *, children: bool = True) -> float:
    """CPU seconds of a process and its children so far, user and system."""
    processes = (process, *process.children(recursive=True)) if children else (process,)
    return sum(sum(one.cpu_times()[:2]) for one in processes)


@contextmanager
def program(module: str, arguments: Mapping[str, str], log: Path) -> Iterator[int]:
    """Runs one of the hand-written programs; yields its process id."""
    with started([sys.executable, "-m", module], arguments, log) as pid:
        yield pid


@contextmanager
def started(command: Sequence[str], arguments: Mapping[str, str], log: Path) -> Iterator[int]:
    """Runs a command with these arguments; yields its process id.

    At the end it kills the process group.
    """
    options = [f"--{name}={value}" for name, value in arguments.items()]
    environment = {**MALLOC, **os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    with log.open("ab") as sink:
        process = subprocess.Popen([*command, *options], stdout=sink, stderr=sink, env=environment, process_group=0)
    try:
        yield process.pid
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


@contextmanager
def scorer(settings: Mapping[str, object], log: Path, *, native: bool = True) -> Iterator[ScorerProcess]:
    """Starts the scorer; yields it without waiting until it is ready.

    Not `native`: without compiled code.
    """
    running = ScorerProcess(settings, log, variables={} if native else {SWITCH: "off"})
    running.spawn()
    try:
        yield running
    finally:
        running.stop()
