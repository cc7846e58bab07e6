"""The launcher with real, short programs instead of processes that load TensorFlow."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from model_training.distributed.cluster import Cluster, Task
from model_training.distributed.launcher import InterruptedRunError, Launcher, local_cluster
from model_training.errors import TrainingError

_SERVES = "import signal; signal.pause()"


class _Heard:
    """Records the lines, and calls a reaction when a certain line arrives."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._reactions: dict[str, Callable[[], None]] = {}

    def on(self, line: str, react: Callable[[], None]) -> None:
        self._reactions[line] = react

    def __call__(self, task: Task, text: str) -> None:
        line = f"{task}: {text}"
        self.lines.append(line)
        self._reactions.get(line, lambda: None)()


@pytest.fixture
def heard() -> _Heard:
    return _Heard()


def _launcher(heard: _Heard, programs: dict[str, str], *, restarts: int = 1) -> Launcher:
    cluster = local_cluster(1, 2)
    return Launcher(
        cluster,
        lambda task: [sys.executable, "-c", programs[str(task)]],
        heard,
        restarts=restarts,
        termination_seconds=1.0,
    )


def _dies_once(folder: Path, *, then: str) -> str:
    """A program that kills itself at its first start."""
    return (
        f"import os, pathlib; mark = pathlib.Path({str(folder / 'mark')!r})\n"
        f"if not mark.exists():\n    mark.touch(); os.kill(os.getpid(), 9)\n{then}"
    )


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A named pipe by which programs wait: opening one end waits for the other end."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


async def test_all_processes_start_and_servers_are_ended(heard: _Heard, pipe: Path) -> None:
    says = "import os, json; c = json.loads(os.environ['TF_CONFIG']); print(c['task'], sorted(c['cluster']))"
    serves = f"import os, signal; print(os.getpid(), flush=True); open({str(pipe)!r}, 'w').close(); signal.pause()"
    programs = {"ps 0": serves, "chief": f"open({str(pipe)!r}).read()\n{says}", "worker 0": says}
    await _launcher(heard, programs).run()
    jobs = ["chief", "ps", "worker"]
    assert f"chief: {{'type': 'chief', 'index': 0}} {jobs}" in heard.lines
    assert f"worker 0: {{'type': 'worker', 'index': 0}} {jobs}" in heard.lines
    (server,) = [int(line.removeprefix("ps 0: ")) for line in heard.lines if line.startswith("ps 0")]
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)


@pytest.mark.parametrize(
    ("variables", "direct"),
    [
        ({}, "127.0.0.1"),
        ({"no_proxy": "a,b"}, "a,b,127.0.0.1"),
        ({"no_proxy": "a", "no_grpc_proxy": "c"}, "c,127.0.0.1"),
    ],
)
async def test_the_processes_reach_each_other_without_a_proxy(
    heard: _Heard, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], direct: str
) -> None:
    """TensorFlow connects them by gRPC, which reads proxy variables also for loopback: they would wait for ever."""
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, text in {"http_proxy": "http://127.0.0.1:9", **variables}.items():
        monkeypatch.setenv(name, text)
    says = "import os; print(os.environ['no_grpc_proxy'])"
    await _launcher(heard, {"ps 0": _SERVES, "chief": says, "worker 0": says}).run()
    assert {f"chief: {direct}", f"worker 0: {direct}"} <= set(heard.lines)


async def test_a_killed_worker_is_restarted_alone(heard: _Heard, tmp_path: Path, pipe: Path) -> None:
    chief = f"print('up', flush=True); open({str(pipe)!r}).read(); print('done')"
    worker = _dies_once(tmp_path, then=f"open({str(pipe)!r}, 'w').close()")
    await _launcher(heard, {"ps 0": _SERVES, "chief": chief, "worker 0": worker}).run()
    assert sorted(heard.lines) == ["chief: done", "chief: up", "worker 0: killed by SIGKILL; it is restarted"]


async def test_a_killed_chief_restarts_all(heard: _Heard, tmp_path: Path, pipe: Path) -> None:
    server = f"import signal; print('up', flush=True); open({str(pipe)!r}, 'w').close(); signal.pause()"
    chief = f"open({str(pipe)!r}).read()\n" + _dies_once(tmp_path, then="print('done')")
    await _launcher(heard, {"ps 0": server, "chief": chief, "worker 0": "pass"}).run()
    killed = "chief: killed by SIGKILL; all processes are restarted from the last checkpoint"
    assert heard.lines == ["ps 0: up", killed, "ps 0: up", "chief: done"]


async def test_a_process_that_keeps_dying_is_named_with_its_last_lines(heard: _Heard) -> None:
    dies = "import sys; print('first'); sys.exit('the reason')"
    launcher = _launcher(heard, {"ps 0": _SERVES, "chief": _SERVES, "worker 0": dies})
    with pytest.raises(TrainingError, match=r"worker 0: exit status 1; .*output:\n    first\n    the reason"):
        await launcher.run()
    assert heard.lines.count("worker 0: exit status 1; it is restarted") == 1


async def test_a_process_with_a_fatal_error_is_not_restarted(heard: _Heard) -> None:
    launcher = _launcher(heard, {"ps 0": _SERVES, "chief": "raise SystemExit(2)", "worker 0": _SERVES}, restarts=9)
    with pytest.raises(TrainingError, match="chief: exit status 2; its last output: nothing"):
        await launcher.run()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_all(heard: _Heard, number: signal.Signals) -> None:
    # The program ignores SIGTERM, so the launcher must kill it.
    stubborn = (
        "import os, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
    )
    heard.on("chief: up", lambda: os.kill(os.getpid(), number))
    launcher = _launcher(heard, {"ps 0": _SERVES, "chief": stubborn, "worker 0": _SERVES})
    with pytest.raises(InterruptedRunError):
        await launcher.run()
    assert heard.lines == ["chief: up"]


async def test_previous_signal_handlers_are_restored(heard: _Heard) -> None:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        await _launcher(heard, {"ps 0": _SERVES, "chief": "pass", "worker 0": "pass"}).run()
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_killed_launcher_leaves_no_process(pipe: Path) -> None:
    # Each process keeps the pipe open for writing: it ends when the last process has ended.
    role = (
        "import os, signal; from model_training.distributed.lifeline import end_with_launcher\n"
        f"end_with_launcher(os.environ); file = open({str(pipe)!r}, 'w')\n"
        "print(os.environ['TF_CONFIG'], file=file, flush=True); signal.pause()"
    )
    launches = (
        "import asyncio, sys; from model_training.distributed.launcher import Launcher, local_cluster\n"
        f"command = [sys.executable, '-c', {role!r}]\n"
        "asyncio.run(Launcher(local_cluster(1, 2), lambda _: command, lambda *_: None).run())"
    )
    launcher = subprocess.Popen([sys.executable, "-c", launches])
    try:
        with pipe.open() as file:
            tasks = [json.loads(file.readline())["task"]["type"] for _ in range(3)]
            launcher.kill()
            assert select.select([file], [], [], 10.0)[0], "a process still has the pipe open"
            assert file.read() == ""
    finally:
        launcher.kill()
        launcher.wait()
    assert sorted(tasks) == ["chief", "ps", "worker"]


async def test_an_endless_line_is_cut(heard: _Heard) -> None:
    writes = "import sys; sys.stdout.write('x' * 300_000)"
    await _launcher(heard, {"ps 0": _SERVES, "chief": writes, "worker 0": "pass"}).run()
    assert heard.lines
    assert all(len(line) < 5000 for line in heard.lines)


def test_ports_are_free_and_different() -> None:
    cluster = local_cluster(3, 4)
    assert [str(task) for task in cluster.tasks] == [
        "ps 0",
        "ps 1",
        "ps 2",
        "chief",
        "worker 0",
        "worker 1",
        "worker 2",
    ]
    addresses = [address for jobs in cluster.jobs.values() for address in jobs]
    assert len(set(addresses)) == 7
    assert json.loads(cluster.tf_config(Task("chief", 0)))["cluster"]["ps"] == addresses[:3]
    assert isinstance(cluster, Cluster)
