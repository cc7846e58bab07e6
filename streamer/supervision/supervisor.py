"""The supervisor: executes the decisions of `Fleet`."""

import asyncio
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from streamer.errors import ConfigError
from streamer.metrics import SupervisorMetrics
from streamer.ops.http_server import HttpServer
from streamer.ops.supervisor_handlers import SupervisorHandlers
from streamer.ops.worker_client import WorkerClient, WorkerView
from streamer.settings import Settings
from streamer.supervision import events as e
from streamer.supervision import messages as m
from streamer.supervision.fleet import Fleet
from streamer.supervision.group import Group, NewMember
from streamer.supervision.handover import Handover
from streamer.supervision.priority import StartPriority, pin
from streamer.supervision.worker_process import Program, WorkerProcess, socket_folder
from streamer.tasks import TaskOwner
from streamer.types import Partition

# A worker has this time for the brokers' part of a release, in addition to `service.drain_ms`.
_RELEASE_MARGIN_S = 10.0
# Commits of a worker that wait for the brokers; it sends one at a time, and one more after a timeout.
_MAX_COMMITS = 64


@dataclass(slots=True)
class _Child:
    process: WorkerProcess
    commits: set[asyncio.Task[None]] = field(default_factory=set)
    # A commit that is retried must not overwrite a later one.
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)
    free_since: dict[Partition, float] = field(default_factory=dict)


class Supervisor:
    """Owns the worker processes, the group's member and the operations port.

    - SIGTERM or SIGINT drains all workers; a second signal ends them at once.
    - SIGHUP replaces the workers one after the other; a worker is told to end when its successor is ready. If `check`
      raises ConfigError, no worker is replaced.
    - A worker that ends too often ends the supervisor after the others have drained, so that a process manager such
      as systemd or Kubernetes sees the failure.
    """

    def __init__(self, settings: Settings, log: FilteringBoundLogger, program: Program, new_member: NewMember) -> None:
        self._settings = settings
        self._log = log
        self._program = program
        self._group = Group(new_member, lambda found: self._handle(e.Assigned(found)), self._revoke, log)
        self._folder = socket_folder()
        self.fleet = Fleet(settings.supervisor, settings.service.drain_ms / 1e3 + _RELEASE_MARGIN_S)
        self._children: dict[int, _Child] = {}
        self._membership: asyncio.Task[None] | None = None
        self._metrics = SupervisorMetrics()
        client = WorkerClient(self.workers, self._socket, settings.ops.token)
        self._tasks = TaskOwner()
        self._orders = Handover(self.fleet, self._tasks.spawn, log)
        self._pages = SupervisorHandlers(client, self._why_not_ready, self._metrics.registry, self._orders)
        self._server = HttpServer(settings.ops, self._pages.routes())
        self._nothing_held = asyncio.Event()
        self._ended = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._is_signalled = False
        self._start_priority = StartPriority()
        self._status = 0
        self._failure: ConfigError | None = None

    async def run(self) -> int:
        """Runs until every worker has ended; returns the highest exit status, 0 if all drained.

        Raises:
            ConfigError: the operations port is in use, the group rejects this machine's member, or another process has
                the name `kafka.group_instance_id`.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        await self._server.start()
        self._log.info("supervisor started", workers=self.fleet.settings.active, port=self.port)
        try:
            async with self._tasks.running():
                history = self._tasks.spawn(self._pages.watch(), "status history")
                self._handle(e.Tick())
                await self._ended.wait()
                history.cancel()
                if self._timer is not None:
                    self._timer.cancel()
        finally:
            await self._server.stop()
            self._folder.cleanup()
        if self._failure is not None:
            raise self._failure
        return self._status

    @property
    def port(self) -> int:
        """The number of the operations port."""
        return self._server.port

    def workers(self) -> list[WorkerView]:
        """The workers, and the numbers of those that should run and do not."""
        found = [WorkerView(n, None, "down") for n in self.fleet.missing]
        for number, worker in self.fleet.workers.items():
            pid = self._children[number].process.pid if number in self._children else None
            found.append(WorkerView(number, pid, worker.phase, frozenset(worker.held)))
        return sorted(found, key=lambda view: view.number)

    def stop(self) -> None:
        """Begins to drain all workers."""
        self._handle(e.Stop())

    def _handle(self, event: e.Event) -> None:
        now = time.monotonic()
        for action in self.fleet.step(event, now):
            self._perform(action)
        starting = {c.process.pid: self.fleet.workers[n].phase == "starting" for n, c in self._children.items()}
        self._start_priority.apply(starting, others_work=bool(self.fleet.in_phase("active")))
        if not self.fleet.held:
            self._nothing_held.set()
        self._metrics.standby.set(len(self.fleet.in_phase("standby")))
        self._metrics.missing.set(max(0, self.fleet.settings.processes - len(self.fleet.in_phase("active", "standby"))))
        self._metrics.unread.set(len(self.fleet.unread))
        if self._timer is not None:
            self._timer.cancel()
        due = self.fleet.next_due(now)
        if due < inf:
            self._timer = asyncio.get_running_loop().call_later(due - now, self._handle, e.Tick())

    def _perform(self, action: e.Action) -> None:
        match action:
            case e.Start(number):
                self._tasks.spawn(self._run_worker(number), f"worker {number}")
            case e.Assign(number, partitions, place, since):
                self._assign(number, partitions, place, since)
            case e.Release(number, partitions):
                self._log.info("partitions move", worker=number, partitions=_names(partitions))
                self._children[number].process.send(m.Release(list(partitions)))
            case e.Terminate(number):
                self._signal(number, signal.SIGTERM)
            case e.Kill(number, reason):
                self._log.error(f"worker is killed: {reason}", worker=number)
                self._signal(number, signal.SIGKILL)
            case e.Join():
                self._membership = self._tasks.spawn(self._be_member(), "group member")
            case e.Leave():
                assert self._membership is not None
                self._membership.cancel()
            case e.Report(level, event, number, status, pause_s):
                pause = {} if pause_s is None else {"pause_s": pause_s}
                getattr(self._log, level)(event, worker=number, status=status, **pause)
            case e.Exit(status):
                self._status = status
                self._ended.set()

    def _assign(self, number: int, partitions: frozenset[Partition], place: int, since: float) -> None:
        child = self._children[number]
        child.free_since |= dict.fromkeys(partitions, since)
        if self.fleet.settings.pin_to_cores:
            pin(child.process.pid, place)
        self._log.info("worker takes over", worker=number, partitions=_names(partitions))
        child.process.send(m.Assign(list(partitions)))

    async def _run_worker(self, number: int) -> None:
        self._socket(number).unlink(missing_ok=True)
        try:
            client_id = f"{self._settings.kafka.client_id}-{number}"
            process = await WorkerProcess.start(self._program, self._socket(number), client_id)
        except OSError as error:
            self._log.error("worker cannot be started", worker=number, error=str(error))
            self._handle(e.Ended(number, 1))
            return
        child = self._children[number] = _Child(process)
        self._log.info("worker started", worker=number, pid=process.pid)
        if (worker := self.fleet.workers[number]).ending:
            process.signal(signal.SIGKILL if worker.killed else signal.SIGTERM)
        try:
            status = await process.run(lambda message: self._receive(number, child, message))
        except ValueError as error:
            self._log.error("worker is killed: it sends no messages of this version", worker=number, error=str(error))
            status = await process.kill()
        # SIGTERM ended it before it could handle signals: it has read nothing, so it counts as drained.
        if status == -signal.SIGTERM and self.fleet.workers[number].ending:
            status = 0
        if not self.fleet.workers[number].ending:
            self._metrics.ends.inc()
        # Its commits are final before another worker looks for them.
        if child.commits:
            await asyncio.wait(child.commits)
        del self._children[number]
        self._orders.ended(number)
        self._handle(e.Ended(number, status))

    def _admit(self, number: int, child: _Child) -> None:
        child.process.send(m.Admitted())
        self._handle(e.Ready(number))

    def _receive(self, number: int, child: _Child, message: m.FromWorker) -> None:
        match message:
            case m.Ready():
                self._log.info("worker ready", worker=number)
                self._orders.prepared(number, child.process.send, lambda: self._admit(number, child))
            case m.Opened(partitions, lost, failing):
                if found := [child.free_since.pop(p) for p in partitions if p in child.free_since]:
                    seconds = round(time.monotonic() - min(found), 3)
                    self._metrics.takeover.observe(seconds)
                    self._log.info("worker reads", worker=number, partitions=_names(partitions), after_s=seconds)
                self._handle(e.Opened(number, frozenset(partitions), frozenset(lost), frozenset(failing)))
            case m.Released(partitions, unanswered):
                released = e.Released(number, frozenset(partitions), unanswered)
                self._tasks.spawn(self._release(child, released), "release")
            case m.Beat(suspects, models):
                self._handle(e.Beat(number, tuple(suspects)))
                self._orders.reported(number, models)
            case m.Adopted():
                self._orders.answered(number, message)
            case m.Commit() if len(child.commits) >= _MAX_COMMITS:
                child.process.send(m.Committed(message.id, "failed", "too many commits wait"))
            case m.Commit():
                task = self._tasks.spawn(self._commit(number, child, message), "commit")
                child.commits.add(task)
                task.add_done_callback(child.commits.discard)

    async def _release(self, child: _Child, released: e.Released) -> None:
        # Its commits are final before another worker looks for them, also those for which it did not wait.
        if child.commits:
            await asyncio.wait(child.commits)
        if self._children.get(released.number) is child:
            self._handle(released)

    async def _commit(self, number: int, child: _Child, message: m.Commit) -> None:
        partitions = {(topic, partition) for topic, partition, _, _ in message.offsets}
        async with child.one_at_a_time:
            worker = self.fleet.workers.get(number)
            is_held = worker is not None and worker.held.issuperset(partitions)
            child.process.send(await self._group.commit(message) if is_held else m.Committed(message.id, "lost"))

    async def _be_member(self) -> None:
        try:
            await self._group.run()
        except ConfigError as error:
            self._failure = error
            self._log.error("the group rejects this machine, draining", error=str(error))
            self._handle(e.Stop())

    async def _revoke(self) -> None:
        """Waits until no worker holds a partition."""
        self._nothing_held.clear()
        self._handle(e.Revoked())
        await self._nothing_held.wait()

    def _signalled(self, number: signal.Signals) -> None:
        if self._is_signalled:
            self._log.error("second signal, workers end at once; records in flight will be read again")
            for each in self._children:
                self._signal(each, signal.SIGKILL)
            return
        self._is_signalled = True
        self._log.info("draining", signal=signal.Signals(number).name)
        self.stop()

    def _reload(self) -> None:
        if not self.fleet.workers:
            return  # those that start later have the present settings
        try:
            self._program.check()
        except ConfigError as error:
            self._log.error("wrong settings, no worker is reloaded", error=str(error))
            return
        self._log.info("workers reload")
        self._handle(e.Reload())

    def _signal(self, number: int, signal_number: signal.Signals) -> None:
        if number in self._children:
            self._children[number].process.signal(signal_number)

    def _why_not_ready(self) -> str | None:
        if self.fleet.stopping:
            return "draining"
        if self.fleet.joined and self.fleet.revoking:
            return "waiting for partitions of the group"
        if not self.fleet.is_complete:
            return "not all workers are ready" if self.fleet.joined else "waiting for the first worker"
        return None if not self.fleet.unread else f"no worker reads {', '.join(_names(self.fleet.unread))}"

    def _socket(self, number: int) -> Path:
        return Path(self._folder.name) / f"worker-{number}.sock"


def _names(partitions: Iterable[Partition]) -> list[str]:
    return [f"{topic}/{number}" for topic, number in sorted(partitions)]
