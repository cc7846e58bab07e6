"""Decides which process of a machine reads which partitions. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

from streamer.settings.deployment import SupervisorSettings
from streamer.supervision import events as e
from streamer.supervision.membership import Membership
from streamer.supervision.reloads import replaceable
from streamer.supervision.sharing import share, surplus
from streamer.supervision.slots import Slots
from streamer.supervision.suspects import Deaths, isolating
from streamer.supervision.worker import Phase, Worker
from streamer.types import Partition

WRONG_SETTINGS = 2
"""Exit status of a process whose settings are wrong; a restart does not help."""
# A suspect partition waits so long for a second ready worker; then it shares the only one.
_ISOLATE_WITHIN_S = 30.0
# A step follows at least so often: a longer gap means that the supervisor itself did not run.
_TICK_S = 0.5


@dataclass(slots=True)
class Fleet:
    """The processes of a machine and their partitions.

    1. At most one process holds a partition: until it has released it, or has been reaped.
    2. Nothing is assigned while the group revokes, or while the machine is not a member or just joins.
    3. A partition whose workers died at least twice at the same position shares a process only with its kind, while two
       workers are ready. With one ready worker it waits at most 30 s; a fleet of one process does not separate it.
    4. While processes are replaced, none of them releases a partition before a new one is ready.
    5. A process that is silent for `hung_after_ms`, or does not release in time, is killed. The time in which the
       supervisor itself did not run does not count.

    Attributes:
        release_s: the time that a worker has to release partitions, in seconds.
        status: the highest exit status of a worker that ended in the drain.
        generation: of the present settings.
        suspects: the partitions that share a process only with their kind.
    """

    settings: SupervisorSettings
    release_s: float
    workers: dict[int, Worker] = field(default_factory=dict)
    assigned: frozenset[Partition] = frozenset()
    revoking: bool = False
    stopping: bool = False
    status: int = 0
    generation: int = 0
    suspects: frozenset[Partition] = frozenset()
    _membership: Membership = field(init=False)
    _slots: Slots = field(init=False)
    _deaths: Deaths = field(default_factory=Deaths)
    _free_since: dict[Partition, float] = field(default_factory=dict)
    _last_of: dict[Partition, int] = field(default_factory=dict)
    _stepped_at: float = inf

    def __post_init__(self) -> None:
        self._membership, self._slots = Membership(self.settings.active), Slots(self.settings)

    @property
    def joined(self) -> bool:
        """Whether the machine is a member of the group."""
        return self._membership.joined

    @property
    def held(self) -> set[Partition]:
        """The partitions that processes hold."""
        return set().union(*(worker.held for worker in self.workers.values()))

    @property
    def free(self) -> set[Partition]:
        """The partitions of this machine that no process holds."""
        return set(self.assigned - self.held)

    @property
    def missing(self) -> list[int]:
        """The numbers of the processes that should run and do not."""
        return self._slots.missing(self.workers)

    @property
    def unread(self) -> set[Partition]:
        """The partitions that no process reads: free ones, and those that are not open yet."""
        return self.free.union(*(worker.opening for worker in self.workers.values()))

    @property
    def is_complete(self) -> bool:
        """Whether all active workers are there, and may read."""
        return self.joined and not self.revoking and len(self.in_phase("active")) >= self.settings.active

    @property
    def is_reloading(self) -> bool:
        """Whether processes with earlier settings are left."""
        return any(w.generation < self.generation for w in self.workers.values() if w.is_staying)

    def in_phase(self, *phases: Phase) -> list[Worker]:
        """The workers in these phases."""
        return [worker for worker in self.workers.values() if worker.phase in phases]

    def step(self, event: e.Event, now: float) -> list[e.Action]:
        """Applies an event; returns the actions in their order."""
        pause_s = now - self._stepped_at - _TICK_S
        if pause_s > _TICK_S:
            self._membership.shift(pause_s)
            for worker in self.workers.values():
                worker.shift(pause_s)
        self._stepped_at = now
        return [*self._apply(event, now), *self._decide(now)]

    def next_due(self, now: float) -> float:
        """When `Tick` is due if nothing else happens, monotonic seconds; infinite after `Exit`."""
        if self.stopping and not self.workers:
            return inf
        due = [time for w in self.workers.values() for time in (w.release_by, w.alive_until) if time > now]
        return min(now + _TICK_S, self._membership.due(now), *self._slots.due(now), *due)

    def _apply(self, event: e.Event, now: float) -> Iterable[e.Action]:
        match event:
            case e.Assigned() if self.joined:
                self._free_since = {p: self._free_since.get(p, now) for p in event.partitions}
                self._deaths.keep(event.partitions)
                self.assigned, self.revoking = event.partitions, False
            case e.Revoked() if self.joined:
                self.revoking = True
            case e.Reload():
                self.generation += 1
            case e.Stop():
                self.stopping = True
            case e.Ready() | e.Opened() | e.Released() | e.Beat() | e.Ended() if event.number in self.workers:
                yield from self._apply_to(self.workers[event.number], event, now)

    def _apply_to(self, worker: Worker, event: e.WorkerEvent, now: float) -> Iterable[e.Action]:
        match event:
            case e.Ready():
                worker.was_ready = True
                worker.phase = "standby" if worker.phase == "starting" else worker.phase
                worker.alive(now + self.settings.hung_after_ms / 1e3)
            case e.Opened():
                worker.opened(event.partitions, event.failing)
                yield from self._release(worker, event.lost & worker.held, now)
            case e.Released():
                self._freed(worker, event.partitions, now)
                self.status = max(self.status, int(event.unanswered > 0 and self.stopping))
            case e.Beat():
                worker.alive(now + self.settings.hung_after_ms / 1e3)
                # A worker forgets a partition a moment before it reports the release.
                self._deaths.reported(worker.held - worker.opening - worker.releasing.keys(), event.suspects)
            case e.Ended():
                yield from self._ended(worker, event.status, now)

    def _freed(self, worker: Worker, partitions: frozenset[Partition], now: float) -> None:
        worker.released(partitions)
        self._free_since |= dict.fromkeys(partitions, now)

    def _ended(self, worker: Worker, status: int, now: float) -> Iterable[e.Action]:
        self._deaths.died(worker.held - worker.opening)
        self._freed(worker, frozenset(worker.held), now)
        del self.workers[worker.number]
        if self.stopping:
            self.status = max(self.status, abs(status))
            return
        if worker.retired:
            if status:
                yield e.Report("warning", "replaced worker did not end in order", worker.number, status)
            return
        is_new = self.is_reloading and worker.generation == self.generation
        pause_s = self._slots.ended(worker.number, now, worker.was_ready)
        if is_new and not worker.was_ready:
            for other in self.workers.values():
                other.generation = self.generation
            yield e.Report("error", "reload stopped, the new worker ended before it was ready", worker.number, status)
        elif status == WRONG_SETTINGS or pause_s is None:
            reason = "worker has wrong settings" if status == WRONG_SETTINGS else "worker ended too often"
            yield e.Report("error", f"{reason}, not restarted; all workers drain", worker.number, status)
            self.stopping, self.status = True, abs(status) or 1
        else:
            yield e.Report("error", "worker ended, will be restarted", worker.number, status, pause_s)
        self._slots.rest_if_needed(worker.number, self.workers, now, is_replacing=self._is_replacing)

    def _decide(self, now: float) -> Iterable[e.Action]:
        yield from self._kill(now)
        yield from self._retire(now)
        if self.stopping:
            if self.joined and not self.held:
                self._membership.joined = False
                yield e.Leave()
            if not self.workers:
                yield e.Exit(self.status)
            return
        self.suspects = self._find_suspects(now)
        self._promote()
        if self.revoking:
            for worker in self.workers.values():
                yield from self._release(worker, worker.held, now)
        else:
            yield from self._assign(now)
            yield from self._balance(now)
        yield from self._start(now)
        membership = self._membership.decide(len(self._ready()), holds=bool(self.held), now=now)
        if isinstance(membership, e.Join):
            self.revoking = True
        elif isinstance(membership, e.Leave):
            self.assigned, self.revoking, self._free_since = frozenset(), False, {}
        if membership is not None:
            yield membership

    def _kill(self, now: float) -> Iterable[e.Action]:
        for worker in self.workers.values():
            late = now >= worker.release_by
            if not worker.killed and (late or now >= worker.alive_until):
                worker.killed, worker.phase = True, "draining"
                yield e.Kill(worker.number, "it did not release its partitions in time" if late else "it is silent")

    def _retire(self, now: float) -> Iterable[e.Action]:
        """Ends processes: first they release their partitions."""
        replaced = replaceable(self.workers.values(), self.generation, self.settings, is_settled=self._is_settled())
        for worker in self.workers.values() if self.stopping else replaced:
            worker.retired, worker.phase = True, "draining"
        for worker in self.in_phase("draining"):
            yield from self._release(worker, worker.held, now)
            if not (worker.held or worker.ending or worker.killed):
                worker.ending, worker.alive_until, worker.end_by = True, inf, now + self.release_s
                yield e.Terminate(worker.number)

    def _wanted(self) -> int:
        """The number of workers that should read: one more while only some partitions are suspects."""
        return self.settings.active + bool(self.suspects and self.assigned - self.suspects)

    def _promote(self) -> None:
        active = self.in_phase("active")
        new = sorted(self.in_phase("standby"), key=lambda w: (-w.generation, bool(w.held), w.number))
        for worker in new[: max(0, self._wanted() - len(active))]:
            worker.place = min(set(range(len(active) + 1)) - {other.place for other in active})
            worker.phase = "active"
            active.append(worker)

    def _assign(self, now: float) -> Iterable[e.Action]:
        """Gives partitions to workers, after these have released those that they must not have."""
        active, suspects, healthy = self.in_phase("active"), self.suspects, self.assigned - self.suspects
        alone = isolating({w.number: w.held for w in active}, suspects, healthy)
        for kind, workers in (
            (healthy, [w for w in active if w.number not in alone]),
            (suspects, [w for w in active if w.number in alone]),
        ):
            for worker in workers:
                yield from self._release(worker, worker.held - kind, now)
            loads = {w.number: len(w.held) for w in workers if w.held <= kind}
            for number, new in share(self.free & kind, loads, self._last_of).items() if loads else ():
                worker = self.workers[number]
                worker.held |= new
                worker.opening |= new
                self._last_of |= dict.fromkeys(new, number)
                since = min(self._free_since[p] for p in new)
                yield e.Assign(number, frozenset(new), worker.place, since)

    def _balance(self, now: float) -> Iterable[e.Action]:
        """Moves partitions between active workers, one step at a time, while nothing else changes."""
        active = self.in_phase("active")
        if not self._is_settled():
            return
        if len(active) > self._wanted():
            spare = min(active, key=lambda w: (len(w.held), -w.number))
            spare.phase = "standby"
            yield from self._release(spare, spare.held, now)
        elif move := surplus({w.number: w.held for w in active if not w.held & self.suspects}):
            yield from self._release(self.workers[move[0]], move[1], now)

    def _release(self, worker: Worker, partitions: Iterable[Partition], now: float) -> Iterable[e.Action]:
        new = frozenset(partitions) - worker.releasing.keys()
        if new and not worker.killed:
            worker.releasing |= dict.fromkeys(new, now + self.release_s)
            yield e.Release(worker.number, new)

    @property
    def _is_replacing(self) -> bool:
        return self.is_reloading or any(worker.retired for worker in self.workers.values())

    def _start(self, now: float) -> Iterable[e.Action]:
        current = sum(w.generation == self.generation for w in self.workers.values() if w.is_staying)
        numbers = self._slots.startable(self.workers, now, is_replacing=self._is_replacing)
        for number in numbers[: max(0, self.settings.processes - current)]:
            self.workers[number] = Worker(number, self.generation)
            yield e.Start(number)

    def _ready(self) -> list[Worker]:
        return self.in_phase("standby", "active")

    def _is_settled(self) -> bool:
        """Whether a worker that stays reads, or has tried to open, each partition that may be read."""
        return not ((self.free and not self.revoking) or any(w.is_moving for w in self.workers.values()))

    def _find_suspects(self, now: float) -> frozenset[Partition]:
        if self.settings.processes == 1:
            return frozenset()
        found = self._deaths.suspects & self.assigned
        if len(self._ready()) > 1:
            return found
        return frozenset(p for p in found if now < self._free_since[p] + _ISOLATE_WITHIN_S)
