"""Decides which process of a machine reads which partitions. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

from streamer.settings.deployment import SupervisorSettings
from streamer.supervision import events as e
from streamer.supervision.restarts import Restarts
from streamer.supervision.sharing import share, surplus
from streamer.supervision.worker import Phase, Worker
from streamer.types import Partition

WRONG_SETTINGS = 2
"""Exit status of a process whose settings are wrong; a restart does not help."""
# The first workers that are ready wait so long for the others before the group gives them all partitions.
_JOIN_AFTER_S = 2.0
# Without a ready worker for so long, other machines take over.
_LEAVE_AFTER_S = 5.0
_SUSPECT_DEATHS = 2


@dataclass(slots=True)
class Fleet:
    """The processes of a machine and their partitions.

    1. At most one process holds a partition: until it has released it, or has been reaped.
    2. Nothing is assigned while the group revokes.
    3. A partition whose workers died at least twice at the same position shares a process only with its kind.
    4. While processes are replaced, none of them releases a partition before a new one is ready.
    5. A process that is silent for `hung_after_ms`, or does not release in time, is killed.

    Attributes:
        release_s: the time that a worker has to release partitions, in seconds.
        status: the highest exit status of a worker that ended in the drain.
    """

    settings: SupervisorSettings
    release_s: float
    workers: dict[int, Worker] = field(default_factory=dict)
    assigned: frozenset[Partition] = frozenset()
    joined: bool = False
    revoking: bool = False
    stopping: bool = False
    status: int = 0
    _generation: int = 0
    _restarts: dict[int, Restarts] = field(default_factory=dict)
    _deaths: dict[Partition, int] = field(default_factory=dict)
    _free_since: dict[Partition, float] = field(default_factory=dict)
    _last_of: dict[Partition, int] = field(default_factory=dict)
    # Infinite while no worker is ready, and while one is.
    _ready_since: float = inf
    _unready_since: float = inf

    @property
    def held(self) -> set[Partition]:
        """The partitions that processes hold."""
        return set().union(*(worker.held for worker in self.workers.values()))

    @property
    def free(self) -> set[Partition]:
        """The partitions of this machine that no process holds."""
        return set(self.assigned - self.held)

    @property
    def is_complete(self) -> bool:
        """Whether all active workers are there, and may read."""
        return self.joined and not self.revoking and len(self.in_phase("active")) >= self.settings.active

    @property
    def is_reloading(self) -> bool:
        """Whether processes with earlier settings are left."""
        return any(w.generation < self._generation for w in self.workers.values() if w.is_staying)

    def in_phase(self, *phases: Phase) -> list[Worker]:
        """The workers in these phases."""
        return [worker for worker in self.workers.values() if worker.phase in phases]

    def step(self, event: e.Event, now: float) -> list[e.Action]:
        """Applies an event; returns the actions in their order."""
        return [*self._apply(event, now), *self._decide(now)]

    def next_due(self, now: float) -> float:
        """When `Tick` is due if nothing else happens, monotonic seconds."""
        due = [time for w in self.workers.values() for time in (w.release_by, w.alive_until)]
        due += [restarts.not_before for restarts in self._restarts.values()]
        due += [self._ready_since + _JOIN_AFTER_S, self._unready_since + _LEAVE_AFTER_S]
        return min((time for time in due if time > now), default=inf)

    def _apply(self, event: e.Event, now: float) -> Iterable[e.Action]:
        match event:
            case e.Assigned():
                self._free_since = {p: self._free_since.get(p, now) for p in event.partitions}
                self._deaths = {p: n for p, n in self._deaths.items() if p in event.partitions}
                self.assigned, self.revoking = event.partitions, False
            case e.Revoked():
                self.revoking = True
            case e.Reload():
                self._generation += 1
            case e.Stop():
                self.stopping = True
            case e.Tick(late_s):
                for worker in self.workers.values():
                    worker.release_by += late_s
                    worker.alive_until += late_s
            case _ if event.number in self.workers:
                yield from self._apply_to(self.workers[event.number], event, now)

    def _apply_to(self, worker: Worker, event: e.WorkerEvent, now: float) -> Iterable[e.Action]:
        match event:
            case e.Ready():
                worker.was_ready = True
                worker.phase = "standby" if worker.phase == "starting" else worker.phase
                worker.alive_until = now + self.settings.hung_after_ms / 1e3
            case e.Opened():
                worker.opening -= event.partitions
            case e.Released():
                self._freed(worker, event.partitions, now)
                self.status = max(self.status, int(event.unanswered > 0 and self.stopping))
            case e.Beat():
                if not worker.ending:
                    worker.alive_until = now + self.settings.hung_after_ms / 1e3
                read = worker.held - worker.opening
                self._deaths = {p: n for p, n in self._deaths.items() if p not in read}
                self._deaths |= {p: n for p, n in event.suspects if p in read}
            case e.Ended():
                yield from self._ended(worker, event.status, now)

    def _freed(self, worker: Worker, partitions: frozenset[Partition], now: float) -> None:
        worker.released(partitions)
        self._free_since |= dict.fromkeys(partitions, now)

    def _ended(self, worker: Worker, status: int, now: float) -> Iterable[e.Action]:
        for partition in worker.held - worker.opening:
            self._deaths[partition] = self._deaths.get(partition, 0) + 1
        self._freed(worker, frozenset(worker.held), now)
        del self.workers[worker.number]
        if self.stopping or (worker.ending and status == 0):
            self.status = max(self.status, abs(status))
            return
        is_new = self.is_reloading and worker.generation == self._generation
        pause_s = self._restarts.setdefault(worker.number, Restarts(self.settings)).ended(now, worker.was_ready)
        if is_new and not worker.was_ready:
            for other in self.workers.values():
                other.generation = self._generation
            yield e.Report("error", "reload stopped, the new worker ended before it was ready", worker.number, status)
        elif status == WRONG_SETTINGS or pause_s is None:
            reason = "worker has wrong settings" if status == WRONG_SETTINGS else "worker ended too often"
            yield e.Report("error", f"{reason}, not restarted; all workers drain", worker.number, status)
            self.stopping, self.status = True, abs(status) or 1
        else:
            yield e.Report("error", "worker ended, will be restarted", worker.number, status, pause_s)

    def _decide(self, now: float) -> Iterable[e.Action]:
        yield from self._kill(now)
        yield from self._retire(now)
        if self.stopping:
            if self.joined and not self.held:
                self.joined = False
                yield e.Leave()
            if not self.workers:
                yield e.Exit(self.status)
            return
        self._promote()
        if self.revoking:
            for worker in self.workers.values():
                yield from self._release(worker, worker.held, now)
        else:
            yield from self._assign()
            yield from self._balance(now)
        yield from self._start(now)
        yield from self._membership(now)

    def _kill(self, now: float) -> Iterable[e.Action]:
        for worker in self.workers.values():
            if now >= min(worker.release_by, worker.alive_until):
                late = now >= worker.release_by
                worker.release_by = worker.alive_until = inf
                yield e.Kill(worker.number, "it did not release its partitions in time" if late else "it is silent")

    def _retire(self, now: float) -> Iterable[e.Action]:
        """Ends processes: first they release their partitions."""
        for worker in self.workers.values() if self.stopping else self._replaceable():
            worker.phase = "draining"
        for worker in self.in_phase("draining"):
            yield from self._release(worker, worker.held, now)
            if not worker.held and not worker.ending:
                worker.ending, worker.alive_until, worker.release_by = True, inf, now + self.release_s
                yield e.Terminate(worker.number)

    def _replaceable(self) -> list[Worker]:
        """Processes with earlier settings that may end now: one active one for each new one that is ready."""
        old = [w for w in self.workers.values() if w.generation < self._generation and w.is_staying]
        starting = [w for w in old if w.phase == "starting"]
        if not self._is_settled() or all(w.generation < self._generation for w in self.in_phase("standby")):
            return starting
        # A standby with earlier settings is the last to go: until then it can replace a worker that dies.
        return starting + sorted((w for w in old if w not in starting), key=lambda w: (w.phase, w.number))[:1]

    def _promote(self) -> None:
        active = self.in_phase("active")
        waiting = any(self._is_suspect(p) for p in self.free)
        wanted = self.settings.active
        if waiting and not any(self._takes_suspects(w) for w in active):
            wanted = max(wanted, len(active) + 1)
        new = sorted(self.in_phase("standby"), key=lambda w: (-w.generation, w.number))
        for worker in new[: max(0, wanted - len(active))]:
            worker.place = min(set(range(len(active) + 1)) - {other.place for other in active})
            worker.phase = "active"
            active.append(worker)

    def _assign(self) -> Iterable[e.Action]:
        suspects = {p for p in self.free if self._is_suspect(p)}
        active = self.in_phase("active")
        healthy = {w.number: len(w.held) for w in active if not any(self._is_suspect(p) for p in w.held)}
        given = share(self.free - suspects, healthy, self._last_of) if healthy else {}
        alone = {w.number: len(w.held) for w in active if self._takes_suspects(w) and w.number not in given}
        given |= share(suspects, alone, self._last_of) if alone else {}
        for number, partitions in given.items():
            worker = self.workers[number]
            worker.held |= partitions
            worker.opening |= partitions
            self._last_of |= dict.fromkeys(partitions, number)
            since = min(self._free_since[p] for p in partitions)
            yield e.Assign(number, frozenset(partitions), worker.place, since)

    def _balance(self, now: float) -> Iterable[e.Action]:
        """Moves partitions between active workers, one step at a time, while nothing else changes."""
        active = self.in_phase("active")
        if not self._is_settled() or any(self._is_suspect(p) for p in self.assigned):
            return
        if len(active) > self.settings.active:
            spare = min(active, key=lambda w: (len(w.held), -w.number))
            spare.phase = "standby"
            yield from self._release(spare, spare.held, now)
        elif move := surplus({w.number: w.held for w in active}):
            yield from self._release(self.workers[move[0]], move[1], now)

    def _release(self, worker: Worker, partitions: set[Partition], now: float) -> Iterable[e.Action]:
        new = frozenset(partitions - worker.releasing)
        if new:
            worker.releasing |= new
            worker.release_by = min(worker.release_by, now + self.release_s)
            yield e.Release(worker.number, new)

    def _start(self, now: float) -> Iterable[e.Action]:
        wanted = self.settings.processes
        # While processes are replaced, one more than usual runs.
        numbers = [n for n in range(wanted + 1) if n not in self.workers]
        resting = {n for n in numbers if n in self._restarts and now < self._restarts[n].not_before}
        room = wanted + self.is_reloading - len(self.workers) - len(resting)
        current = sum(w.generation == self._generation for w in self.workers.values() if w.is_staying)
        for number in [n for n in numbers if n not in resting][: max(0, min(room, wanted - current))]:
            self.workers[number] = Worker(number, self._generation)
            yield e.Start(number)

    def _membership(self, now: float) -> Iterable[e.Action]:
        ready = len(self.in_phase("standby", "active"))
        self._ready_since = min(now, self._ready_since) if ready else inf
        self._unready_since = inf if ready else min(now, self._unready_since)
        if not self.joined and (ready >= self.settings.active or now >= self._ready_since + _JOIN_AFTER_S):
            self.joined = True
            yield e.Join()
        elif self.joined and not self.held and now >= self._unready_since + _LEAVE_AFTER_S:
            self.joined, self.assigned, self.revoking = False, frozenset(), False
            yield e.Leave()

    def _is_settled(self) -> bool:
        """Whether every partition is read by a worker that stays."""
        return not (self.revoking or self.free or any(worker.is_moving for worker in self.workers.values()))

    def _is_suspect(self, partition: Partition) -> bool:
        return self._deaths.get(partition, 0) >= _SUSPECT_DEATHS

    def _takes_suspects(self, worker: Worker) -> bool:
        return all(self._is_suspect(p) for p in worker.held)
