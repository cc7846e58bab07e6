"""Random histories of a machine: the invariants hold in each step, and afterwards everything is as it should be."""

import hypothesis.strategies as st
from hypothesis import given, settings

from streamer.supervision import events as e
from streamer.types import Partition
from tests.streamer.supervision.machine import Machine, topic

_DURATION = st.sampled_from([0.0, 0.02, 0.3, 2.0, 12.0])
_COMMAND = st.one_of(
    st.tuples(st.just("run"), st.sampled_from([0.0, 0.02, 0.1, 0.6, 3.0, 8.0])),
    st.tuples(st.sampled_from(["die", "die 2", "hang", "poison", "lose"]), st.integers(0, 5)),
    st.tuples(st.just("rebalance"), st.integers(0, 9)),
    st.tuples(st.just("leaderless"), st.integers(0, 2**9 - 1)),
    st.tuples(st.sampled_from(["start_s", "open_s", "release_s", "drain_s"]), _DURATION),
    st.tuples(st.sampled_from(["start_s", "open_s", "release_s", "drain_s"]), st.none()),
    st.tuples(st.just("reload"), st.none()),
    st.tuples(st.just("pause"), st.sampled_from([0.4, 4.9, 5.2, 30.0])),
)


def _of_bits(bits: int) -> frozenset[Partition]:
    return topic(*(number for number in range(9) if bits >> number & 1))


def _do(machine: Machine, what: str, value: float | None) -> None:
    numbers = sorted(machine.processes)
    number = numbers[int(value or 0) % len(numbers)] if numbers else None
    match what:
        case "run":
            machine.run(value or 0.0)
        case "die" if number is not None:
            machine.die(number)
        case "hang" if number is not None:
            # One that hangs before it is ready is not noticed: it shows no sign of life before.
            machine.processes[number].hung = machine.fleet.workers[number].was_ready
        case "poison" if machine.group:
            partition = sorted(machine.group)[int(value or 0) % len(machine.group)]
            machine.poisoned.add(partition)
            for process in list(machine.processes.values()):
                if partition in process.reads:
                    machine.die(process.number)
        case "lose" if number is not None and machine.fleet.workers[number].opening:
            process = machine.processes[number]
            lost = frozenset(machine.fleet.workers[number].opening)
            process.reads -= lost
            machine.handle(e.Opened(number, frozenset(), lost))
        case "rebalance":
            machine.rebalance(topic(*range(int(value or 0))))
        case "leaderless":
            machine.leaderless = _of_bits(int(value or 0))
        case "start_s" | "open_s" | "release_s" | "drain_s":
            setattr(machine, what, value)
        case "reload":
            machine.handle(e.Reload())
        case "pause":
            machine.pause(value or 0.0)


def _heal(machine: Machine) -> None:
    """No more faults. A process that never becomes ready stays so until it is replaced by an operator."""
    machine.start_s, machine.open_s, machine.release_s, machine.drain_s = 1.0, 0.01, 0.1, 0.1
    machine.poisoned.clear()
    machine.deaths.clear()
    for process in list(machine.processes.values()):
        worker = machine.fleet.workers[process.number]
        if (worker.phase == "starting" and process.start_s is None) or (worker.opening and process.open_s is None):
            machine.die(process.number)
        process.open_s, process.release_s, process.drain_s = 0.01, 0.1, 0.1
    # Hung processes are killed.
    machine.run(6.0)


@given(
    workers=st.integers(1, 3),
    standby=st.integers(0, 2),
    partitions=st.integers(0, 8),
    commands=st.lists(_COMMAND, max_size=40),
    leaderless=st.one_of(st.just(0), st.integers(0, 2**9 - 1)),
)
@settings(max_examples=80)
def test_after_any_faults_each_partition_is_read_by_one_active_worker(
    workers: int, standby: int, partitions: int, commands: list[tuple[str, float | None]], leaderless: int
) -> None:
    """Except those that cannot be opened: an active worker holds each of them, and the fleet names it as unread."""
    machine = Machine(range(partitions), workers=workers, standby=standby, max_restarts=10_000, restart_pause_ms=100.0)
    machine.run(5.0)
    for what, value in commands:
        _do(machine, what, value)
    _heal(machine)
    machine.leaderless = _of_bits(leaderless)

    machine.run_until(lambda: machine.is_quiet)

    machine.since()
    machine.run(30.0)
    assert machine.since() == [], "it is quiet"

    machine.leaderless = frozenset()
    machine.run(2.0)
    assert machine.since() == []
    assert not machine.fleet.unread


@given(
    workers=st.integers(1, 3),
    standby=st.integers(0, 2),
    commands=st.lists(_COMMAND, max_size=25),
    later=st.lists(_COMMAND.filter(lambda command: command[0] != "rebalance"), max_size=5),
)
@settings(max_examples=40)
def test_after_stop_the_fleet_ends_whatever_its_processes_do(
    workers: int,
    standby: int,
    commands: list[tuple[str, float | None]],
    later: list[tuple[str, float | None]],
) -> None:
    machine = Machine(workers=workers, standby=standby, max_restarts=10_000, restart_pause_ms=100.0)
    machine.run(3.0)
    for what, value in commands:
        _do(machine, what, value)

    machine.handle(e.Stop())
    machine.since()
    for what, value in later:
        _do(machine, what, value)

    machine.run_until(lambda: bool(machine.actions) and isinstance(machine.actions[-1], e.Exit), 120.0)
    assert not machine.since(e.Start, e.Assign)
    assert not machine.fleet.joined
