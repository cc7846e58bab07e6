"""The parts of the test, each from the start of the containers to their removal."""

import os
from dataclasses import replace

from rich.console import Console

from sandbox.containers.checks import Check
from sandbox.containers.load import Load, fault_of, not_ok, send
from sandbox.containers.project import Project
from sandbox.containers.update import update
from sandbox.traffic.report import TrafficReport

_SECONDS = 20.0
_BY_ID = {"STREAMER_ADS__TOPIC": "ads", "CANDIDATES_BY": "id"}
_SHM_MARGIN = 0.99


def check_file(console: Console, project: Project) -> None:
    """The file as it is: order, answers, limits, crashes, stop times. Keeps the volumes."""
    console.print("the file: start in the declared order ...", style="bold")
    with project.running(keep_volumes=True):
        _say_answers(console, "answers", send(Load("steady"), seconds=_SECONDS), project)
        project.check_declared()
        running = [name for name, service in project.services.items() if service.restarts]
        console.print(f"SIGKILL of {', '.join(running)}, one after the other ...", style="bold")
        report = send(Load("crash"), meanwhile=lambda: project.kill_each(running))
        _say_answers(console, "answers over crashes", report, project)
        console.print("stop of each ...", style="bold")
        project.stop_each(list(reversed(running)))


def check_ads(console: Console, project: Project) -> None:
    """The same with ads by id: the scorer holds their features in shared memory."""
    console.print("ads by id ...", style="bold")
    by_id = replace(project, compose=replace(project.compose, variables=_BY_ID), measured={})
    with by_id.running(keep_volumes=True):
        _say_answers(console, "answers by id", send(Load("by-id", by="id"), seconds=_SECONDS), project)
        size, used = _shared_memory(by_id)
        declared = project.services["streamer"].shm or 0
        fault = "" if declared * _SHM_MARGIN <= size and used > 0 else f"{used:,} bytes used of {size:,}"
        project.checks.append(Check("streamer", "shared memory", fault))
        console.print(f"  shared memory of the scorer: {used / 1e6:.1f} of {size / 1e6:.0f} MB")


def check_update(console: Console, project: Project) -> None:
    """A rolling update of two scorers under traffic."""
    console.print("rolling update of two scorers with static names ...", style="bold")
    own = replace(project, measured={})
    with own.running(keep_volumes=True):
        found = update(own, lambda line: console.print(line, markup=False))
        console.print(
            f"  {found.sent} requests sent, {found.lost} lost, {found.duplicates} duplicates; not ok {found.not_ok:.2%}"
            f" (without an update {found.steady_not_ok:.2%}); {found.seconds_without_ok} s without an `ok`;"
            f" {found.seconds:.0f} s in all",
            markup=False,
        )


def _say_answers(console: Console, name: str, report: TrafficReport, project: Project) -> None:
    fault = fault_of(report, duplicates_allowed="crash" in name)
    project.checks.append(Check("streamer", name, fault))
    console.print(
        f"  {name}: {report.requests_sent} requests sent, {report.answered} answered, {report.lost} lost,"
        f" {report.duplicates} duplicates, not ok {not_ok(report):.1%} {fault}",
        markup=False,
    )


def _shared_memory(project: Project) -> tuple[int, int]:
    """Size of /dev/shm of the scorer and its used part, in bytes."""
    memory = os.statvfs(f"/proc/{project.pid('streamer')}/root/dev/shm")
    return memory.f_frsize * memory.f_blocks, memory.f_frsize * (memory.f_blocks - memory.f_bfree)
