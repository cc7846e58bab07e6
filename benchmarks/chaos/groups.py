"""Two machines in one consumer group, and a group without any scorer for a minute."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.chaos.crashes import PARTITIONS, excess_figures
from benchmarks.chaos.excess import EventRun, Outcomes, Partitions, Window, delivered_in_all, over_runs
from benchmarks.chaos.machines import Machine, wait_until_settled
from benchmarks.chaos.scene import PROMPT, WARM_UP_S, Chaos, Scene
from benchmarks.report import Figure
from sandbox.processes.scorer import ScorerProcess
from streamer.settings.deployment import KafkaSettings

_ONE_WORKER = {"supervisor.workers": 1, "supervisor.standby": 1}
_RESTARTS_WINDOW_S = 60.0
_BETWEEN_RESTARTS_S = 2.0
# After the session timeout: the rebalance, and seconds that must be like those before the loss.
_AFTER_SESSION_S = 8.0
_WITHOUT_SCORER_S = 60.0
_BACKLOG_RATE = 3.0
_AFTER_RETURN_S = 20.0
_RETURN_S = 2.0


def two_supervisors(chaos: Chaos) -> list[Figure]:
    """Of two machines, first one and then the other is stopped by SIGTERM and restarted."""
    runs = []
    unclean = 0
    with _two_machines(chaos, "two_supervisors") as (scene, processes):
        machines = _machines(processes)

        def event() -> Partitions:
            nonlocal unclean
            for process in processes:
                unclean += process.stop() != 0
                process.start()
                wait_until_settled(machines, PARTITIONS)
                time.sleep(_BETWEEN_RESTARTS_S)
            return range(PARTITIONS)

        for number in range(chaos.settings.times):
            wait_until_settled(machines, PARTITIONS)
            run = scene.around(event, window_s=_RESTARTS_WINDOW_S)
            scene.say_run(number, f"excess {run.excess()}", run.report)
            runs.append(run)
    return [*excess_figures(chaos, runs, 150), Figure("unclean_ends", unclean, "ends", "<=", 0)]


def lost_machine(chaos: Chaos) -> list[Figure]:
    """The supervisor of one of two machines and all its workers are killed by SIGKILL."""
    runs: list[EventRun] = []
    window_s = KafkaSettings().session_timeout_ms / 1e3 + _AFTER_SESSION_S
    with _two_machines(chaos, "lost_machine") as (scene, processes):
        machines = _machines(processes)
        for number in range(chaos.settings.times):
            process, machine = processes[number % 2], machines[number % 2]
            wait_until_settled(machines, PARTITIONS)

            def event(machine: Machine = machine) -> Partitions:
                lost = machine.partitions()
                machine.kill_all()
                return lost

            run = scene.around(event, window_s=window_s)
            process.kill()  # it has ended; this makes it startable
            process.start()
            outages = [run.outage_s(partitions) for partitions in (run.affected, run.others(PARTITIONS))]
            scene.say_run(number, f"outage {outages[0]:.1f} s, of the others {outages[1]:.2f} s", run.report)
            runs.append(run)
    others = [run.outage_s(run.others(PARTITIONS)) for run in runs]
    return [
        *over_runs("outage", [run.outage_s(run.affected) for run in runs], "s"),
        *over_runs("outage_of_others", others, "s", at_most=chaos.bound(1.0)),
        *over_runs("excess", [run.excess() for run in runs], "requests"),
        *delivered_in_all([run.report for run in runs], duplicates=chaos.may_duplicate),
    ]


def backlog(chaos: Chaos) -> list[Figure]:
    """For a minute there is no scorer, at three times the rate; then it returns."""
    shares, backlogs, starts, reports = [], [], [], []
    with chaos.scene("backlog", partitions=PARTITIONS, service=PROMPT, overridden={}) as scene:
        for number in range(chaos.settings.times):
            returned = started = 0.0

            def outage() -> None:
                nonlocal started, returned
                time.sleep(WARM_UP_S)
                scene.scorer.stop()
                time.sleep(_WITHOUT_SCORER_S)
                started = time.monotonic()
                scene.scorer.start()
                returned = time.monotonic()
                time.sleep(_AFTER_RETURN_S)

            report = scene.traffic(outage, times_rate=_BACKLOG_RATE)
            outcomes = Outcomes.of(report)
            end = returned + _AFTER_RETURN_S
            shares.append(outcomes.within(Window(returned + _RETURN_S, end)).ok_share)
            backlogs.append(outcomes.within(Window(started - _WITHOUT_SCORER_S, returned)).not_ok)
            starts.append(returned - started)
            reports.append(report)
            scene.say_run(number, f"{shares[-1]:.2%} ok after the return", report)
    return [
        *over_runs("ok_share_from_2_s_after_return", shares, "ratio", at_least=chaos.bound(0.98)),
        *over_runs("not_ok_before_return", backlogs, "requests"),
        *over_runs("start", starts, "s"),
        *delivered_in_all(reports, duplicates=chaos.may_duplicate),
    ]


@contextmanager
def _two_machines(chaos: Chaos, name: str) -> Iterator[tuple[Scene, tuple[ScorerProcess, ScorerProcess]]]:
    """Two supervisors in one group, each with one worker and one standby."""
    with (
        chaos.scene(name, partitions=PARTITIONS, service=PROMPT, overridden=_ONE_WORKER) as scene,
        ScorerProcess(scene.overridden, chaos.bench.work / f"{name}-second.log") as second,
    ):
        yield scene, (scene.scorer, second)


def _machines(processes: tuple[ScorerProcess, ScorerProcess]) -> tuple[Machine, Machine]:
    first, second = processes
    return Machine(first, 1, 1), Machine(second, 1, 1)
