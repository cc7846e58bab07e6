"""Several workers as real processes: crashes, drains, reloads, one operations port."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from streamer.ops.supervisor import Supervisor

from streamer.errors import ConfigError
from streamer.settings import Settings
from tests.streamer.ops.test_worker_handlers import ask

WAIT_S = 120.0


@dataclass
class Running:
    """A supervisor of two workers, in a task."""

    supervisor: Supervisor
    task: asyncio.Task[int]
    folder: Path

    def started(self) -> dict[int, set[int]]:
        """The process ids that have listened so far, by worker."""
        found: dict[int, set[int]] = {0: set(), 1: set()}
        for path in self.folder.glob("[01]-*"):
            number, _, pid = path.name.partition("-")
            found[int(number)].add(int(pid))
        return found

    def drained(self) -> set[int]:
        """The process ids that have drained so far."""
        return {int(path.name.partition("-")[2]) for path in self.folder.glob("drained-*")}

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110  the event happens in another process
                await asyncio.sleep(0.05)

    async def until_started(self, *counts: int) -> None:
        await self.until(lambda: [len(pids) for pids in self.started().values()] == list(counts))

    async def ask(self, path: str, method: str = "GET") -> tuple[int, str]:
        return await ask(f"127.0.0.1:{self.supervisor.port}", path, method)


@asynccontextmanager
async def running(
    folder: Path, check: Callable[[], object] = lambda: None, command: Sequence[str] = (), **supervisor: Any
) -> AsyncIterator[Running]:
    settings = Settings.model_validate(
        {
            "ops": {"port": 0},
            "kafka": {"client_id": "test"},
            "supervisor": {"workers": 2, "restart_pause_ms": 1, "poll_ms": 50, **supervisor},
        }
    )
    worker = [sys.executable, "-m", "tests.streamer.ops.worker", str(folder)]
    one = Supervisor(settings, structlog.get_logger(), command or worker, os.environ, check)
    task = asyncio.create_task(one.run())
    try:
        yield Running(one, task, folder)
    finally:
        for each in one.workers:
            each.kill()
        async with asyncio.timeout(WAIT_S):
            await task


async def test_pages_combine_all_workers(tmp_path: Path) -> None:
    async with running(tmp_path) as found:
        await found.until_started(1, 1)
        assert {"worker 0", "worker 1", "reload workers"} <= {task.get_name() for task in asyncio.all_tasks()}
        assert await found.ask("/readyz") == (200, "worker 0: ready\nworker 1: ready\n")
        assert await found.ask("/healthz") == (200, "worker 0: RUNNING\nworker 1: RUNNING\n")
        status, text = await found.ask("/metrics")
        assert status == 200
        for line in (
            'answers_total{status="ok",worker="0"} 10.0',
            'answers_total{status="ok",worker="1"} 11.0',
            'streamer_supervisor_worker_up{worker="1"} 1.0',
        ):
            assert line in text
        assert text.count("# TYPE answers counter") + text.count("# TYPE answers_total counter") == 1
        configs = json.loads((await found.ask("/config"))[1])
        assert [(each["worker"], each["config"]["kafka"]["client_id"]) for each in configs] == [
            (0, "test-0"),
            (1, "test-1"),
        ]
        status, text = await found.ask("/model/pin/2", "POST")
        assert status == 200
        assert text.count('"serving": 2') == 2, "both workers executed it"
        status, text = await found.ask("/model/pin/9", "POST")
        assert status == 409
        assert text.startswith("worker 0: NOT_FOUND")


async def test_sigterm_drains_all_and_a_crashed_worker_is_restarted(tmp_path: Path) -> None:
    async with running(tmp_path) as found:
        await found.until_started(1, 1)
        (crashed,) = found.started()[0]
        os.kill(crashed, signal.SIGKILL)
        await found.until_started(2, 1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert await asyncio.wait_for(found.task, WAIT_S) == 0
        alive = {pid for pids in found.started().values() for pid in pids} - {crashed}
        assert found.drained() == alive


async def test_a_worker_that_ends_too_often_ends_all(tmp_path: Path) -> None:
    async with running(tmp_path, max_restarts=1) as found:
        await found.until_started(1, 1)
        (tmp_path / "crash").touch()
        os.kill(next(iter(found.started()[0])), signal.SIGKILL)
        assert await asyncio.wait_for(found.task, WAIT_S) == 3
        assert found.drained(), "the other worker drained"


async def test_the_pause_before_a_restart_doubles(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as lines:
        async with running(tmp_path, command=("sh", "-c", "exit 3"), max_restarts=3, restart_pause_ms=2) as found:
            assert await asyncio.wait_for(found.task, WAIT_S) == 3
    pauses = [line["pause_s"] for line in lines if "pause_s" in line and line["worker"] == 0]
    others = [line["pause_s"] for line in lines if "pause_s" in line and line["worker"] == 1]
    longer, shorter = sorted((pauses, others), key=len, reverse=True)
    assert longer == [0.002, 0.004, 0.008]
    assert shorter == longer[: len(shorter)], "the other worker drains when the first one stays down"
    assert any(line["event"] == "worker ended too often, not restarted" for line in lines)


async def test_workers_can_be_pinned_to_cores(tmp_path: Path) -> None:
    cores = sorted(os.sched_getaffinity(0))
    async with running(tmp_path, pin_to_cores=True) as found:
        await found.until_started(1, 1)
        for number, pids in found.started().items():
            assert os.sched_getaffinity(next(iter(pids))) == {cores[number % len(cores)]}


async def test_workers_are_not_pinned_by_default(tmp_path: Path) -> None:
    async with running(tmp_path) as found:
        await found.until_started(1, 1)
        for pids in found.started().values():
            assert os.sched_getaffinity(next(iter(pids))) == os.sched_getaffinity(0)


async def test_a_worker_with_wrong_settings_is_not_restarted(tmp_path: Path) -> None:
    (tmp_path / "wrong").touch()
    async with running(tmp_path) as found:
        assert await asyncio.wait_for(found.task, WAIT_S) == 2
        assert found.started() == {0: set(), 1: set()}


async def test_sighup_reloads_one_after_the_other(tmp_path: Path) -> None:
    async with running(tmp_path) as found:
        await found.until_started(1, 1)
        before = {pid for pids in found.started().values() for pid in pids}
        os.kill(os.getpid(), signal.SIGHUP)
        await found.until_started(2, 2)
        assert found.drained() == before
        first, second = (max((tmp_path / f"{n}-{p}").stat().st_mtime_ns for p in found.started()[n]) for n in (0, 1))
        gone = (tmp_path / f"drained-{min(before & found.started()[1])}").stat().st_mtime_ns
        assert first < gone < second, "the second worker drains when the first one is ready again"


async def test_a_crash_during_a_reload_still_counts(tmp_path: Path) -> None:
    async with running(tmp_path, max_restarts=1, restart_pause_ms=1000) as found:
        await found.until_started(1, 1)
        (crashed,) = found.started()[0]
        os.kill(crashed, signal.SIGKILL)
        await found.until(lambda: found.supervisor.workers[0].pid is None)
        os.kill(os.getpid(), signal.SIGHUP)
        await found.until_started(2, 2)
        (restarted,) = found.started()[0] - {crashed}
        os.kill(restarted, signal.SIGKILL)
        assert await asyncio.wait_for(found.task, WAIT_S) == signal.SIGKILL, "it ended too often"


async def test_sighup_with_wrong_settings_changes_nothing(tmp_path: Path) -> None:
    asked = asyncio.Event()

    def check() -> None:
        asked.set()
        raise ConfigError("source.budget_ms: wrong")

    async with running(tmp_path, check) as found:
        await found.until_started(1, 1)
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.wait_for(asked.wait(), WAIT_S)
        assert (await found.ask("/readyz"))[0] == 200
        assert not found.drained()


async def test_a_worker_that_is_down_is_named(tmp_path: Path) -> None:
    async with running(tmp_path, restart_pause_ms=600_000) as found:
        await found.until_started(1, 1)
        os.kill(next(iter(found.started()[1])), signal.SIGKILL)
        await found.until(lambda: found.supervisor.workers[1].pid is None)
        status, text = await found.ask("/readyz")
        assert (status, text) == (503, "worker 0: ready\nworker 1: does not run\n")
        status, page = await found.ask("/status")
        assert status == 200
        assert '<th>state</th><td>RUNNING</td><td class="bad">does not run</td>' in page
        metrics = (await found.ask("/metrics"))[1]
        assert 'streamer_supervisor_worker_up{worker="1"} 0.0' in metrics
        assert 'answers_total{status="ok",worker="0"} 10.0' in metrics


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_at_once(tmp_path: Path, number: signal.Signals) -> None:
    async with running(tmp_path) as found:
        await found.until_started(1, 1)
        for pids in found.started().values():
            os.kill(next(iter(pids)), signal.SIGSTOP)  # they cannot drain
        os.kill(os.getpid(), number)
        await asyncio.sleep(0)
        os.kill(os.getpid(), number)
        assert await asyncio.wait_for(found.task, WAIT_S) == signal.SIGKILL
