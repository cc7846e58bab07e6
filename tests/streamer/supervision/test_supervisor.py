"""A supervisor with real worker processes: takeovers, drains, reloads, one operations port."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiokafka.errors import CommitFailedError, KafkaError

from streamer.errors import ConfigError
from streamer.settings import Settings
from streamer.supervision.supervisor import Supervisor
from streamer.supervision.worker_process import Program, socket_folder
from streamer.types import Partition
from tests.streamer.ops.test_worker_handlers import ask

WAIT_S = 120.0
ALL: frozenset[Partition] = frozenset(("t", number) for number in range(4))


@dataclass
class Member:
    """A group with one member, which gets all partitions."""

    assigned: Callable[[frozenset[Partition]], None]
    revoke: Callable[[], Awaitable[None]]
    log: list[str]
    commits: dict[Partition, tuple[int, str]]
    failures: asyncio.Queue[Exception]
    commit_failures: list[Exception]
    commit_delays: list[float]
    may_join: asyncio.Event

    async def join(self) -> None:
        await self.may_join.wait()
        self.log.append("join")
        self.assigned(ALL)

    async def watch(self) -> None:
        raise await self.failures.get()

    async def commit(self, offsets: Mapping[Partition, tuple[int, str]]) -> None:
        await asyncio.sleep(self.commit_delays.pop(0) if self.commit_delays else 0)
        if self.commit_failures:
            raise self.commit_failures.pop()
        self.commits.update(offsets)

    async def leave(self) -> None:
        self.log.append("leave")

    async def rebalance(self, partitions: frozenset[Partition]) -> None:
        await self.revoke()
        self.log.append("rejoin")
        self.assigned(partitions)


@dataclass
class Running:
    """A supervisor of two workers, in a task."""

    folder: Path
    log: list[str] = field(default_factory=list)
    commits: dict[Partition, tuple[int, str]] = field(default_factory=dict)
    failures: asyncio.Queue[Exception] = field(default_factory=asyncio.Queue)
    commit_failures: list[Exception] = field(default_factory=list)
    commit_delays: list[float] = field(default_factory=list)
    may_join: asyncio.Event = field(default_factory=asyncio.Event)
    supervisor: Supervisor = field(init=False)
    member: Member = field(init=False)
    task: asyncio.Task[int] = field(init=False)

    def new_member(
        self, assigned: Callable[[frozenset[Partition]], None], revoke: Callable[[], Awaitable[None]]
    ) -> Member:
        shared = self.log, self.commits, self.failures, self.commit_failures, self.commit_delays, self.may_join
        self.member = Member(assigned, revoke, *shared)
        return self.member

    def phases(self) -> dict[int, str]:
        return {number: worker.phase for number, worker in self.supervisor.fleet.workers.items()}

    def read_by(self, number: int) -> set[Partition]:
        """The partitions that a worker has opened and was not told to release."""
        worker = self.supervisor.fleet.workers[number]
        return worker.held - worker.opening - set(worker.releasing)

    def pid(self, number: int) -> int:
        return next(view.pid for view in self.supervisor.workers() if view.number == number) or 0

    def is_settled(self) -> bool:
        """Whether all partitions are read and all processes are ready."""
        fleet = self.supervisor.fleet
        moving = any(worker.is_moving or worker.phase == "starting" for worker in fleet.workers.values())
        return fleet.is_complete and not (moving or fleet.free or fleet.is_reloading) and fleet.held == ALL

    def drained(self) -> set[int]:
        """The process ids that have drained so far."""
        return {int(path.name.partition("-")[2]) for path in self.folder.glob("drained-*")}

    def outcomes(self) -> set[str]:
        """How commits have ended so far."""
        return {path.name.removeprefix("commit-") for path in self.folder.glob("commit-*")}

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                assert not self.task.done()
                await asyncio.sleep(0.02)

    async def until_settled(self) -> None:
        await self.until(lambda: self.is_settled() and len(self.phases()) == self.supervisor.fleet.settings.processes)

    async def ask(self, path: str, method: str = "GET") -> tuple[int, str]:
        return await ask(f"127.0.0.1:{self.supervisor.port}", path, method)

    async def orders(self) -> dict[int, Any]:
        """The serving, pinned and rolled-back versions of the first model in each process."""
        found = json.loads((await self.ask("/model"))[1])
        models = {each["worker"]: each["models"][0] for each in found}
        return {n: (each["serving"], each["pinned"], each["rolled_back"]) for n, each in models.items()}

    async def replace(self, number: int) -> None:
        """Kills a process, and waits for its successor."""
        before = self.pid(number)
        os.kill(before, signal.SIGKILL)
        await self.until(lambda: self.pid(number) not in (0, before))
        await self.until_settled()

    async def end(self) -> int:
        return await asyncio.wait_for(self.task, WAIT_S)


@asynccontextmanager
async def running(
    folder: Path, check: Callable[[], object] = lambda: None, command: Sequence[str] = (), **supervisor: Any
) -> AsyncIterator[Running]:
    settings = Settings.model_validate(
        {
            "ops": {"port": 0},
            "kafka": {"client_id": "test"},
            "supervisor": {"workers": 2, "standby": 1, "restart_pause_ms": 1, **supervisor},
        }
    )
    worker = [sys.executable, "-m", "tests.streamer.supervision.worker", str(folder)]
    found = Running(folder)
    found.may_join.set()
    program = Program(command or worker, os.environ, check)
    found.supervisor = Supervisor(settings, structlog.get_logger(), program, found.new_member)
    found.task = asyncio.create_task(found.supervisor.run())
    try:
        yield found
    finally:
        found.supervisor.stop()
        for view in found.supervisor.workers():
            if view.pid is not None:
                os.kill(view.pid, signal.SIGKILL)
        async with asyncio.timeout(WAIT_S):
            await asyncio.wait([found.task])


async def test_workers_share_the_partitions_and_one_is_standby(tmp_path: Path) -> None:
    async with running(tmp_path) as found:
        await found.until_settled()
        assert sorted(found.phases().values()) == ["active", "active", "standby"]
        assert sorted(len(found.read_by(number)) for number in found.phases()) == [0, 2, 2]
        assert found.commits == dict.fromkeys(ALL, (1, "running")), "workers commit through the member"
        views = json.loads((await found.ask("/workers"))[1])
        assert sorted(number for view in views for number in view["partitions"]) == [0, 1, 2, 3]
        assert {view["pid"] for view in views} == {found.pid(number) for number in found.phases()}


async def test_pages_combine_all_workers(tmp_path: Path) -> None:
    async with running(tmp_path, standby=0) as found:
        await found.until_settled()
        assert await found.ask("/readyz") == (200, "worker 0: ready\nworker 1: ready\n")
        assert await found.ask("/healthz") == (200, "worker 0: RUNNING\nworker 1: RUNNING\n")
        status, text = await found.ask("/metrics")
        assert status == 200
        for line in (
            'answers_total{status="ok",worker="0"} 10.0',
            'answers_total{status="ok",worker="1"} 11.0',
            'streamer_supervisor_worker_up{worker="1"} 1.0',
            "streamer_supervisor_standby_workers 0.0",
            "streamer_supervisor_unread_partitions 0.0",
            "streamer_supervisor_takeover_seconds_count 2.0",
            "streamer_log_lines_dropped_total 0.0",
            'streamer_log_lines_dropped_total{worker="1"} 0.0',
        ):
            assert line in text
        assert text.count("# TYPE streamer_log_lines_dropped_total") == 1, "of the supervisor and its workers"
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


async def test_a_killed_workers_partitions_go_to_the_standby_without_a_rebalance(tmp_path: Path) -> None:
    async with running(tmp_path, restart_pause_ms=600_000) as found:
        await found.until_settled()
        (standby,) = [number for number, phase in found.phases().items() if phase == "standby"]
        killed, other = (number for number, phase in found.phases().items() if phase == "active")
        before, others = found.read_by(killed), found.read_by(other)
        os.kill(found.pid(killed), signal.SIGKILL)
        await found.until(lambda: found.read_by(standby) == before)
        assert found.read_by(other) == others
        assert found.log == ["join"], "the group notices nothing"
        status, text = await found.ask("/readyz")
        assert (status, f"worker {killed}: does not run" in text) == (200, True), "all partitions are read"
        status, text = await found.ask("/healthz")
        assert (status, f"worker {killed}: does not run" in text) == (200, True), "the supervisor repairs it itself"
        assert "streamer_supervisor_worker_ends_total 1.0" in (await found.ask("/metrics"))[1]


async def test_without_a_standby_the_others_take_over_until_the_worker_is_back(tmp_path: Path) -> None:
    async with running(tmp_path, standby=0, restart_pause_ms=1000) as found:
        await found.until_settled()
        os.kill(found.pid(0), signal.SIGKILL)
        await found.until(lambda: found.read_by(1) == ALL)
        await found.until_settled()
        assert [len(found.read_by(number)) for number in (0, 1)] == [2, 2], "the partitions are shared again"
        assert found.log == ["join"]


async def test_a_commit_that_a_worker_sent_before_its_death_is_stored(tmp_path: Path) -> None:
    async with running(tmp_path, workers=1, standby=0, restart_pause_ms=600_000) as found:
        (tmp_path / "die").touch()
        await found.until(lambda: found.supervisor.fleet.joined and not found.supervisor.fleet.workers)
        assert found.commits == dict.fromkeys(ALL, (1, "running"))


async def test_a_worker_learns_how_its_commit_ended(tmp_path: Path) -> None:
    async with running(tmp_path, standby=0) as found:
        await found.until_settled()
        assert found.outcomes() == {"stored"}
        found.commit_failures += [KafkaError("the coordinator moves"), CommitFailedError("rebalanced")]
        await found.member.rebalance(ALL)
        assert found.outcomes() == {"stored", "lost", "failed"}
        await found.until_settled()


async def test_a_rebalance_waits_until_all_partitions_are_released(tmp_path: Path) -> None:
    async with running(tmp_path) as found:
        await found.until_settled()
        (tmp_path / "stuck").touch()
        rebalance = asyncio.create_task(found.member.rebalance(frozenset({("t", 0)})))
        await found.until(lambda: any(worker.releasing for worker in found.supervisor.fleet.workers.values()))
        assert not rebalance.done()
        (tmp_path / "stuck").unlink()
        await asyncio.wait_for(rebalance, WAIT_S)
        assert found.commits[("t", 1)] == (2, "clean"), "commits are possible during the revocation"
        await found.until(lambda: any(found.read_by(n) == {("t", 0)} for n in found.phases()))


async def test_sigterm_drains_all_leaves_the_group_and_ends_with_0(tmp_path: Path) -> None:
    async with running(tmp_path) as found:
        await found.until_settled()
        pids = {found.pid(number) for number in found.phases()}
        os.kill(os.getpid(), signal.SIGTERM)
        assert await found.end() == 0
        assert found.drained() == pids
        assert found.commits == dict.fromkeys(ALL, (2, "clean"))
        assert found.log == ["join", "leave"]


async def test_a_lost_membership_is_repaired_by_a_new_member(tmp_path: Path) -> None:
    async with running(tmp_path) as found:
        await found.until_settled()
        found.failures.put_nowait(KafkaError("a background task has died"))
        await found.until(lambda: found.log == ["join", "leave", "join"])
        await found.until_settled()


async def test_a_replaced_member_ends_with_its_error_after_the_drain(tmp_path: Path) -> None:
    async with running(tmp_path) as found:
        await found.until_settled()
        pids = {found.pid(number) for number in found.phases()}
        found.failures.put_nowait(ConfigError("kafka.group_instance_id: taken"))
        with pytest.raises(ConfigError, match="taken"):
            await found.end()
        assert found.drained() == pids


async def test_a_worker_that_ends_too_often_ends_all(tmp_path: Path) -> None:
    async with running(tmp_path, max_restarts=1) as found:
        await found.until_settled()
        (tmp_path / "crash").touch()
        os.kill(found.pid(0), signal.SIGKILL)
        assert await found.end() == 3
        assert len(found.drained()) == 2, "the other workers drained"


async def test_the_pause_before_a_restart_doubles(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as lines:
        async with running(
            tmp_path, command=("sh", "-c", "exit 3"), max_restarts=3, restart_pause_ms=2, standby=0
        ) as found:
            assert await found.end() == 3
    pauses = [[line["pause_s"] for line in lines if "pause_s" in line and line["worker"] == n] for n in (0, 1)]
    shorter, longer = sorted(pauses, key=len)
    assert longer == [0.002, 0.004, 0.008]
    assert shorter == longer[: len(shorter)], "the other worker drains when the first one stays down"
    assert any(line["event"].startswith("worker ended too often, not restarted") for line in lines)


async def test_a_program_that_cannot_be_started_counts_as_an_end(tmp_path: Path) -> None:
    async with running(tmp_path, command=(str(tmp_path / "missing"),), max_restarts=1) as found:
        assert await found.end() == 1


# A worker that sends bytes that are no message, and does not end.
GARBAGE = """
import os, sys, time
with os.fdopen(int(os.environ["STREAMER_SUPERVISOR__LINK"]), "wb") as link:
    link.write({"long": b"x" * 3_000_000, "text": b"text\\n", "bytes": b"\\xff\\n"}[sys.argv[1]])
    link.flush()
    time.sleep(600)
"""


@pytest.mark.parametrize("garbage", ["long", "text", "bytes"])
async def test_a_worker_that_sends_no_messages_is_killed(tmp_path: Path, garbage: str) -> None:
    command = (sys.executable, "-c", GARBAGE, garbage)
    async with running(tmp_path, command=command, workers=1, standby=0, max_restarts=1) as found:
        assert await found.end() == signal.SIGKILL, "in order, after its second end"


# A worker that opens nothing: it sends commits of the offsets 1 to N of a partition, and does not wait for them.
HASTY = """
import json, os, pathlib, socket, sys
end = socket.socket(fileno=int(os.environ["STREAMER_SUPERVISOR__LINK"]))
with end, end.makefile("rw") as link:
    print(json.dumps({"type": "ready"}), file=link, flush=True)
    link.readline()
    for n in range(1, int(sys.argv[1]) + 1):
        print(json.dumps({"type": "commit", "id": n, "offsets": [["t", 0, n, ""]]}), file=link)
    link.flush()
    outcomes = []
    while len(outcomes) < int(sys.argv[1]):
        message = json.loads(link.readline())
        if "outcome" in message:
            outcomes.append(message["outcome"])
    pathlib.Path(sys.argv[2]).write_text(json.dumps(outcomes))
    link.readline()
"""


@pytest.mark.parametrize(("count", "stored"), [(3, 3), (1000, 64)])
async def test_commits_of_a_worker_are_stored_in_their_order_and_bounded(
    tmp_path: Path, count: int, stored: int
) -> None:
    """A worker that leaves does not wait for an earlier commit, which must not overwrite its last one."""
    command = (sys.executable, "-c", HASTY, str(count), str(tmp_path / "outcomes"))
    async with running(tmp_path, command=command, workers=1, standby=0) as found:
        found.commit_delays += [0.5, 0.1]
        await found.until((tmp_path / "outcomes").exists)
        await found.until(lambda: bool((tmp_path / "outcomes").read_text()))
        assert json.loads((tmp_path / "outcomes").read_text()).count("stored") == stored
        assert found.commits == {("t", 0): (stored, "")}


async def test_sighup_during_the_start_changes_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as found:
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGHUP)
        await found.until_settled()
        assert found.supervisor.fleet.generation == 0


async def test_it_is_not_ready_before_the_group_has_assigned_partitions(tmp_path: Path) -> None:
    async with running(tmp_path) as found:
        found.may_join.clear()
        await found.until(lambda: found.supervisor.fleet.joined)
        status, text = await found.ask("/readyz")
        assert (status, text.partition("\n")[0]) == (503, "waiting for partitions of the group")
        found.may_join.set()
        await found.until_settled()
        assert (await found.ask("/readyz"))[0] == 200


async def test_workers_can_be_pinned_to_cores(tmp_path: Path) -> None:
    cores = sorted(os.sched_getaffinity(0))
    async with running(tmp_path, pin_to_cores=True) as found:
        await found.until_settled()
        for number, worker in found.supervisor.fleet.workers.items():
            expected = {cores[worker.place % len(cores)]} if worker.phase == "active" else set(cores)
            assert os.sched_getaffinity(found.pid(number)) == expected


async def test_a_worker_with_wrong_settings_is_not_restarted(tmp_path: Path) -> None:
    (tmp_path / "wrong").touch()
    async with running(tmp_path) as found:
        assert await found.end() == 2
        assert not found.log, "it never joined"


async def test_sighup_replaces_each_worker_when_its_successor_is_ready(tmp_path: Path) -> None:
    async with running(tmp_path) as found:
        await found.until_settled()
        before = {found.pid(number) for number in found.phases()}
        (tmp_path / "unready").touch()
        os.kill(os.getpid(), signal.SIGHUP)
        await found.until(lambda: len(found.phases()) == 4)
        assert found.is_settled() or not found.drained()
        assert not found.drained(), "no worker ends before its successor is ready"
        (tmp_path / "unready").unlink()
        await found.until_settled()
        assert found.drained() == before
        assert found.log == ["join"]


async def test_a_reload_whose_new_worker_fails_leaves_the_old_ones_working(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as lines:
        async with running(tmp_path) as found:
            await found.until_settled()
            before = {found.pid(number) for number in found.phases()}
            (tmp_path / "wrong").touch()
            os.kill(os.getpid(), signal.SIGHUP)
            await found.until(lambda: any(line["event"].startswith("reload stopped") for line in lines))
            assert {found.pid(number) for number in found.phases()} == before
            assert found.is_settled()


async def test_sighup_with_wrong_settings_changes_nothing(tmp_path: Path) -> None:
    asked = asyncio.Event()

    def check() -> None:
        asked.set()
        raise ConfigError("source.budget_ms: wrong")

    async with running(tmp_path, check) as found:
        await found.until_settled()
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.wait_for(asked.wait(), WAIT_S)
        assert (await found.ask("/readyz"))[0] == 200
        assert not found.drained()


async def test_a_worker_that_hangs_is_killed_and_replaced(tmp_path: Path) -> None:
    async with running(tmp_path, hung_after_ms=1500, restart_pause_ms=600_000) as found:
        await found.until_settled()
        (standby,) = [number for number, phase in found.phases().items() if phase == "standby"]
        os.kill(found.pid(1 if standby == 0 else 0), signal.SIGSTOP)
        await found.until(lambda: len(found.read_by(standby)) == 2)
        assert len(found.phases()) == 2


async def test_a_partition_that_nobody_reads_is_named(tmp_path: Path) -> None:
    async with running(tmp_path, workers=1, standby=0, restart_pause_ms=600_000) as found:
        await found.until_settled()
        os.kill(found.pid(0), signal.SIGKILL)
        await found.until(lambda: not found.supervisor.fleet.workers)
        status, text = await found.ask("/readyz")
        assert (status, text) == (503, "not all workers are ready\nworker 0: does not run\n")
        status, page = await found.ask("/status")
        assert status == 200
        assert "<li>worker 0: does not run</li>" in page
        metrics = (await found.ask("/metrics"))[1]
        assert 'streamer_supervisor_worker_up{worker="0"} 0.0' in metrics
        assert "streamer_supervisor_unread_partitions 4.0" in metrics


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_at_once(tmp_path: Path, number: signal.Signals) -> None:
    async with running(tmp_path, standby=0) as found:
        await found.until_settled()
        for each in found.phases():
            os.kill(found.pid(each), signal.SIGSTOP)  # they cannot drain
        os.kill(os.getpid(), number)
        await asyncio.sleep(0)
        os.kill(os.getpid(), number)
        assert await found.end() == signal.SIGKILL


@pytest.mark.slow
async def test_an_operators_orders_outlive_every_process(tmp_path: Path) -> None:
    async with running(tmp_path) as found:
        await found.until_settled()
        assert (await found.ask("/model/pin/2", "POST"))[0] == 200
        assert (await found.ask("/model/pin/9", "POST"))[0] == 409, "a rejected order is not remembered"
        for number in found.phases():
            await found.replace(number)
        assert await found.orders() == dict.fromkeys(found.phases(), (2, 2, []))
        assert (await found.ask("/model/unpin", "POST"))[0] == 200
        assert (await found.ask("/model/rollback", "POST"))[0] == 200
        os.kill(os.getpid(), signal.SIGHUP)
        before = {found.pid(number) for number in found.phases()}
        await found.until(lambda: found.drained() == before)
        await found.until_settled()
        assert await found.orders() == dict.fromkeys(found.phases(), (2, None, [3]))


async def test_an_order_outlives_the_only_process(tmp_path: Path) -> None:
    async with running(tmp_path, workers=1, standby=0) as found:
        await found.until_settled()
        assert (await found.ask("/model/rollback", "POST"))[0] == 200
        await found.replace(0)
        assert await found.orders() == {0: (2, None, [3])}


def test_without_space_for_sockets_it_does_not_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"workers' sockets \(TMPDIR names one\): .*nowhere"):
        socket_folder()
