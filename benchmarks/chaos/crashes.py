"""Workers of a supervisor are killed or replaced, with a standby that takes over."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from benchmarks.chaos.excess import EventRun, Outcomes, Partitions, Window, delivered_in_all, over_runs
from benchmarks.chaos.machines import Machine, wait_until_settled
from benchmarks.chaos.scene import PROMPT, WARM_UP_S, Chaos, Scene
from benchmarks.report import Figure

PARTITIONS = 8
_WINDOW_S = 10.0
_RELOAD_WINDOW_S = 20.0
# A machine that is overloaded without an event measures nothing.
CONTROL_OK_SHARE = 0.95
_KILLS = 20
_BETWEEN_KILLS_S = 5.0
_SETTLE_S = 60.0
# As an operator sets it who expects more crashes than the default of 5 in 5 minutes.
_MAX_RESTARTS = 100


def kill_one_of_two(chaos: Chaos) -> list[Figure]:
    """One of two workers is killed by SIGKILL; a standby is ready."""
    with _scene(chaos, "kill_one_of_two", workers=2, standby=1) as (scene, machine):
        runs = _runs(chaos, scene, machine, lambda run: _kill(machine, run), _WINDOW_S)
    others = [run.excess(run.others(PARTITIONS)) for run in runs]
    return [
        *excess_figures(chaos, runs, 60),
        *over_runs("excess_of_others", others, "requests", at_most=chaos.bound(0)),
    ]


def kill_only_worker(chaos: Chaos) -> list[Figure]:
    """The only active worker is killed by SIGKILL; a standby is ready."""
    with _scene(chaos, "kill_only_worker", workers=1, standby=1) as (scene, machine):
        runs = _runs(chaos, scene, machine, lambda run: _kill(machine, run), _WINDOW_S)
    return excess_figures(chaos, runs, 60)


def reload(chaos: Chaos) -> list[Figure]:
    """SIGHUP replaces two workers."""
    with _scene(chaos, "reload", workers=2, standby=0) as (scene, machine):

        def fault(_: int) -> Partitions:
            before = {worker.pid for worker in machine.workers()}
            scene.scorer.signal(signal.SIGHUP)
            deadline = time.monotonic() + _SETTLE_S
            while before & {worker.pid for worker in machine.workers()}:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"reload: workers of {before} still run after {_SETTLE_S:g} s")
                time.sleep(0.1)
            return range(PARTITIONS)

        runs = _runs(chaos, scene, machine, fault, _RELOAD_WINDOW_S)
    return excess_figures(chaos, runs, 10)


def kills(chaos: Chaos) -> list[Figure]:
    """20 SIGKILLs of workers, one every 5 s; no healthy request may be dead-lettered."""
    reports, shares = [], []
    overridden = {"supervisor.max_restarts": _MAX_RESTARTS}
    with _scene(chaos, "kills", workers=2, standby=1, overridden=overridden) as (scene, machine):
        for run in range(chaos.settings.times):
            wait_until_settled([machine], PARTITIONS)
            began = 0.0

            def faults() -> None:
                nonlocal began
                time.sleep(WARM_UP_S)
                began = time.monotonic()
                for number in range(_KILLS):
                    _kill(machine, number)
                    time.sleep(max(0.0, began + (number + 1) * _BETWEEN_KILLS_S - time.monotonic()))

            report = scene.traffic(faults)
            window = Window(began, began + _KILLS * _BETWEEN_KILLS_S)
            shares.append(Outcomes.of(report).within(window).ok_share)
            reports.append(report)
            scene.say_run(run, f"{shares[-1]:.1%} ok", report)
    return [
        *over_runs("ok_share", shares, "ratio", at_least=chaos.bound(0.85)),
        *delivered_in_all(reports, duplicates=chaos.may_duplicate, healthy=True),
    ]


def excess_figures(chaos: Chaos, runs: Sequence[EventRun], at_most: float) -> list[Figure]:
    """The excess of the runs, with its bound, and figures of every scenario."""
    return [
        *over_runs("excess", [run.excess() for run in runs], "requests", at_most=chaos.bound(at_most)),
        *over_runs(
            "ok_share_of_control",
            [run.ok_share_of_control for run in runs],
            "ratio",
            at_least=chaos.bound(CONTROL_OK_SHARE),
        ),
        *delivered_in_all([run.report for run in runs], duplicates=chaos.may_duplicate),
    ]


@contextmanager
def _scene(
    chaos: Chaos, name: str, *, workers: int, standby: int, overridden: Mapping[str, object] | None = None
) -> Iterator[tuple[Scene, Machine]]:
    """A supervisor that is the only member of its group."""
    ours = {"supervisor.workers": workers, "supervisor.standby": standby, **(overridden or {})}
    with chaos.scene(name, partitions=PARTITIONS, service=PROMPT, overridden=ours) as scene:
        yield scene, Machine(scene.scorer, workers, standby)


def _runs(
    chaos: Chaos, scene: Scene, machine: Machine, event: Callable[[int], Partitions], window_s: float
) -> list[EventRun]:
    """One run for each of `times` events; the argument of `event` is its number."""
    runs = []
    for number in range(chaos.settings.times):
        wait_until_settled([machine], PARTITIONS)
        run = scene.around(lambda number=number: event(number), window_s=window_s)  # type: ignore[misc]
        scene.say_run(number, f"excess {run.excess()}", run.report)
        runs.append(run)
    return runs


def _kill(machine: Machine, number: int) -> Partitions:
    """Kills another active worker each time; returns its partitions."""
    deadline = time.monotonic() + _SETTLE_S
    while not (active := machine.active()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no active worker for {_SETTLE_S:g} s")
        time.sleep(0.1)
    victim = active[number % len(active)]
    machine.kill(victim)
    return victim.partitions
