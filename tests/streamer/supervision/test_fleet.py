"""Each test is one interleaving of deaths, reloads, rebalances and stops, on a virtual clock."""

import pytest

from streamer.supervision import events as e
from tests.streamer.supervision.machine import Machine, topic


def _started(**settings: object) -> Machine:
    """A machine whose workers read and whose standby is ready."""
    machine = Machine(**settings)  # type: ignore[arg-type]
    machine.run_until(lambda: machine.is_quiet)
    machine.since()
    return machine


def test_all_workers_start_the_machine_joins_and_they_share_the_partitions() -> None:
    machine = Machine(range(6))
    assert machine.since() == [e.Start(0), e.Start(1), e.Start(2)]
    machine.run(2.0)
    assert machine.since(e.Join) == [e.Join()]
    assert {n: len(held) for n, held in machine.placing.items()} == {0: 3, 1: 3}
    assert machine.numbers("standby") == [2]
    assert machine.fleet.is_complete


def test_the_first_ready_worker_waits_two_seconds_for_the_others() -> None:
    machine = Machine(range(4), standby=0)
    machine.later(0.0, 0, machine.be_ready)
    machine.processes[1].hung = True
    machine.run(1.9)
    assert machine.since(e.Join) == []
    machine.run(0.2)
    assert machine.since(e.Join) == [e.Join()]
    machine.run(1.0)
    assert machine.placing == {0: topic(0, 1, 2, 3)}
    assert not machine.fleet.is_complete


def test_a_late_worker_gets_its_share_without_a_partition_that_returns() -> None:
    machine = Machine(range(6), workers=4, standby=0)
    machine.processes[3].hung = True
    machine.run(5.0)
    machine.since()
    machine.handle(e.Ready(3))
    machine.processes[3].hung = False
    machine.later(0.0, 3, machine.beat)
    machine.run_until(lambda: machine.is_quiet)
    moved = [action for action in machine.since(e.Release) if isinstance(action, e.Release)]
    assert sum(len(action.partitions) for action in moved) == 1


def test_the_standby_takes_over_at_once_and_the_dead_worker_becomes_the_standby() -> None:
    machine = _started()
    lost = machine.placing[0]
    machine.die(0)
    assert machine.since(e.Assign) == [e.Assign(2, frozenset(lost), 0, machine.now)]
    machine.run_until(lambda: machine.is_quiet)
    assert machine.placing[2] == lost
    assert machine.numbers("standby") == [0]


def test_the_successor_dies_before_it_has_opened_the_partitions() -> None:
    machine = _started()
    lost = machine.placing[0]
    machine.open_s = None
    machine.processes[2].open_s = None
    machine.die(0)
    machine.run(0.1)
    machine.die(2)
    assert machine.fleet.held == topic(*range(6)), "the other active worker has them at once"
    machine.run_until(lambda: 0 in machine.processes)
    machine.open_s = 0.01
    machine.processes[0].open_s = 0.01
    machine.run_until(lambda: machine.is_quiet)
    assert machine.fleet.suspects == frozenset(), "a partition that is not read yet kills nobody"
    assert lost <= set().union(*machine.placing.values())


def test_without_a_ready_standby_the_other_worker_takes_over_until_one_is_ready() -> None:
    machine = _started(standby=0)
    machine.die(0)
    machine.run(0.1)
    assert machine.placing == {1: topic(*range(6))}
    machine.run_until(lambda: machine.is_quiet)
    assert {n: len(held) for n, held in machine.placing.items()} == {0: 3, 1: 3}


def test_a_dead_standby_restarts_and_no_partition_moves() -> None:
    machine = _started()
    machine.die(2)
    machine.run_until(lambda: machine.is_quiet)
    assert machine.since(e.Assign, e.Release) == []


def test_all_workers_die_the_machine_leaves_after_five_seconds_and_joins_again() -> None:
    machine = _started()
    machine.start_s = 8.0
    for number in (0, 1, 2):
        machine.die(number)
    machine.run(4.9)
    assert machine.since(e.Leave) == []
    machine.run(0.2)
    assert machine.since(e.Leave) == [e.Leave()]
    assert not machine.fleet.assigned
    machine.run_until(lambda: machine.is_quiet)
    assigns = [action for action in machine.since(e.Join, e.Assign) if isinstance(action, e.Assign)]
    assert all(machine.now - assign.since < 5.0 for assign in assigns), "before, other machines had them"


def test_an_assignment_that_arrives_after_the_leave_is_ignored() -> None:
    machine = _started(workers=1, standby=0)
    machine.start_s = None
    machine.die(0)
    machine.run(6.0)
    assert not machine.fleet.joined
    machine.handle(e.Assigned(topic(1)))
    machine.handle(e.Revoked())
    assert machine.fleet.assigned == frozenset()
    assert not machine.fleet.revoking


def test_a_worker_that_is_silent_is_killed_and_replaced() -> None:
    machine = _started()
    machine.processes[0].hung = True
    machine.run(4.4)
    assert machine.since(e.Kill) == []
    machine.run(0.7)
    assert machine.since(e.Kill) == [e.Kill(0, "it is silent")]
    machine.run_until(lambda: machine.is_quiet)
    assert 0 not in machine.placing


def test_a_silent_standby_gets_no_partition_between_its_kill_and_its_end() -> None:
    machine = _started()
    machine.handle(e.Tick())
    machine.processes[2].hung = True
    machine.run_until(lambda: any(isinstance(action, e.Kill) for action in machine.actions))
    machine.die(0)
    assert [action.number for action in machine.since(e.Assign) if isinstance(action, e.Assign)] == [1]


@pytest.mark.parametrize("pause_s", [4.6, 5.2, 60.0])
def test_a_supervisor_that_was_paused_kills_no_worker_that_lives(pause_s: float) -> None:
    machine = _started()
    machine.run(0.3)
    machine.pause(pause_s)
    machine.run(10.0)
    assert machine.since(e.Kill, e.Leave) == []


def test_a_supervisor_that_was_paused_still_kills_a_silent_worker() -> None:
    machine = _started()
    machine.processes[0].hung = True
    machine.run(2.0)
    machine.pause(60.0)
    machine.run(4.0)
    assert machine.since(e.Kill) == [e.Kill(0, "it is silent")]


def test_a_rebalance_waits_until_all_workers_have_released() -> None:
    machine = _started()
    machine.processes[0].release_s = 3.0
    machine.rebalance(topic(0, 7, 8))
    machine.run(2.0)
    assert machine.fleet.held == {p for p in topic(*range(6)) if p in machine.placing[0]}
    assert machine.since(e.Assign) == []
    machine.run_until(lambda: machine.is_quiet)
    assert machine.fleet.held == topic(0, 7, 8)


def test_a_worker_that_does_not_release_in_time_is_killed_and_the_rebalance_goes_on() -> None:
    machine = _started()
    machine.processes[0].release_s = None
    machine.rebalance(topic(0, 1))
    machine.run(19.9)
    assert machine.since(e.Kill) == []
    machine.run(0.2)
    assert machine.since(e.Kill) == [e.Kill(0, "it did not release its partitions in time")]
    machine.run_until(lambda: machine.is_quiet)


def test_a_second_release_has_its_full_time() -> None:
    machine = _started(workers=1)
    machine.processes[0].release_s = 19.0
    machine.handle(e.Opened(0, frozenset(), topic(1)))  # Its opening failed, so it is released.
    machine.run(18.5)
    machine.rebalance(topic(0, 1))
    machine.run(18.0)
    assert machine.since(e.Kill) == []
    machine.run_until(lambda: machine.is_quiet)


def test_a_worker_dies_while_it_releases_for_a_rebalance() -> None:
    machine = _started()
    machine.processes[0].release_s = None
    machine.rebalance(topic(0, 1))
    machine.run(1.0)
    machine.die(0)
    machine.run_until(lambda: machine.is_quiet)
    assert machine.since(e.Kill) == []


def test_a_rebalance_while_partitions_are_opening() -> None:
    machine = Machine(range(6))
    machine.open_s = 5.0
    for process in machine.processes.values():
        process.open_s = 5.0
    machine.run(2.0)
    assert machine.fleet.held
    assert machine.placing == {}
    machine.rebalance(topic(0, 1, 2))
    machine.run_until(lambda: machine.is_quiet)
    assert machine.fleet.held == topic(0, 1, 2)


def test_an_assignment_without_a_revocation_takes_away_what_is_not_in_it() -> None:
    machine = _started()
    machine.group = topic(0, 3, 9)
    machine.handle(e.Assigned(machine.group))
    machine.run_until(lambda: machine.is_quiet)
    assert machine.fleet.held == topic(0, 3, 9)


def test_a_partition_that_could_not_be_opened_is_assigned_again() -> None:
    machine = _started(workers=1)
    machine.processes[0].reads -= topic(1)
    machine.handle(e.Opened(0, frozenset(), topic(1)))
    assert machine.since(e.Release) == [e.Release(0, topic(1))]
    machine.run_until(lambda: machine.is_quiet)
    assert topic(1) <= machine.placing[0]


def test_with_fewer_partitions_than_workers_the_others_stay_active() -> None:
    machine = _started(partitions=[0], workers=3)
    machine.die(machine.reader(("t", 0)))
    machine.run(0.1)
    assert machine.fleet.held == topic(0)
    machine.run_until(lambda: machine.is_quiet)
    assert len(machine.numbers("active")) == 3


# Reloads.


def test_a_reload_replaces_all_processes_and_releases_only_to_a_ready_new_one() -> None:
    machine = _started()
    machine.handle(e.Reload())
    assert machine.since() == [e.Start(3)]
    machine.run_until(lambda: machine.is_quiet)
    started = [action.number for action in machine.since(e.Start) if isinstance(action, e.Start)]
    assert len(started) == 2
    assert machine.fleet.missing == []


def test_a_reload_without_a_standby_replaces_the_only_worker() -> None:
    machine = _started(workers=1, standby=0)
    machine.handle(e.Reload())
    machine.run_until(lambda: machine.is_quiet)
    assert machine.placing == {1: topic(*range(6))}
    assert machine.fleet.missing == [], "number 0 has been replaced"


def test_a_reload_while_no_worker_is_ready_replaces_them_at_once() -> None:
    machine = Machine()
    machine.handle(e.Reload())
    assert machine.since(e.Terminate) == [e.Terminate(0), e.Terminate(1), e.Terminate(2)]
    machine.run_until(lambda: machine.is_quiet)


@pytest.mark.parametrize("status", [1, 2, -9])
def test_a_new_process_that_ends_before_it_is_ready_stops_the_reload(status: int) -> None:
    machine = _started()
    machine.handle(e.Reload())
    machine.die(3, status)
    assert not machine.fleet.is_reloading
    machine.run(30.0)
    assert machine.since(e.Release, e.Terminate, e.Exit) == []
    assert machine.is_quiet


def test_the_pause_after_a_stopped_reload_does_not_delay_the_restart_of_a_worker() -> None:
    machine = _started(restart_pause_ms=10_000.0)
    machine.handle(e.Reload())
    machine.die(3)
    machine.run(5.0)
    machine.handle(e.Reload())
    machine.die(3)  # The second time its pause would be 20 s.
    machine.die(0)
    machine.since()
    machine.run(10.1)
    assert len(machine.since(e.Start)) == 1


def test_a_new_process_that_never_becomes_ready_leaves_the_old_ones_and_a_second_reload_replaces_it() -> None:
    machine = _started()
    machine.start_s = None
    machine.handle(e.Reload())
    machine.run(600.0)
    assert machine.since(e.Release, e.Terminate) == []
    assert machine.fleet.is_reloading
    machine.start_s = 1.0
    machine.handle(e.Reload())
    assert machine.since(e.Terminate) == [e.Terminate(3)]
    machine.run_until(lambda: machine.is_quiet)


def test_a_second_reload_when_the_new_process_is_ready_replaces_this_one_first() -> None:
    machine = _started()
    machine.processes[0].release_s = 5.0
    machine.handle(e.Reload())
    machine.rebalance(topic(*range(6)))
    machine.run(1.5)
    assert len(machine.fleet.in_phase("standby", "active")) == 4
    machine.handle(e.Reload())
    machine.run_until(lambda: machine.is_quiet)
    assert {worker.generation for worker in machine.fleet.workers.values()} == {2}


def test_an_old_worker_dies_during_a_reload_and_a_ready_process_takes_over() -> None:
    machine = _started()
    machine.handle(e.Reload())
    machine.run(0.5)
    machine.die(0)
    machine.run(0.1)
    assert machine.fleet.held == topic(*range(6))
    machine.run_until(lambda: machine.is_quiet)


def test_an_old_worker_dies_while_it_releases_for_its_successor() -> None:
    machine = _started()
    machine.processes[0].release_s = None
    machine.handle(e.Reload())
    machine.run_until(lambda: machine.fleet.workers[0].retired)
    machine.die(0)
    assert machine.since(e.Report) == [e.Report("warning", "replaced worker did not end in order", 0, -11)]
    machine.run_until(lambda: machine.is_quiet)


def test_a_replaced_worker_that_ends_with_wrong_settings_stops_nothing() -> None:
    machine = Machine()
    machine.handle(e.Reload())
    machine.die(0, 2)
    assert not machine.fleet.stopping
    machine.run_until(lambda: machine.is_quiet)


def test_a_worker_that_becomes_ready_after_its_sigterm_has_its_full_time() -> None:
    machine = Machine(workers=1, standby=0)
    machine.processes[0].drain_s = 15.0
    machine.handle(e.Reload())
    machine.handle(e.Ready(0))
    machine.run(16.0)
    assert machine.since(e.Kill) == []


def test_a_rebalance_during_a_reload() -> None:
    machine = _started()
    machine.handle(e.Reload())
    machine.run(1.05)
    machine.rebalance(topic(2, 3))
    machine.run_until(lambda: machine.is_quiet)
    assert machine.fleet.held == topic(2, 3)


def test_a_reload_goes_on_while_the_brokers_do_not_answer() -> None:
    machine = _started()
    machine.handle(e.Revoked())
    machine.run(1.0)
    machine.handle(e.Reload())
    machine.run_until(lambda: not machine.fleet.is_reloading)
    assert machine.fleet.revoking


# The end.


def test_a_stop_releases_leaves_ends_the_processes_and_exits_with_status_0() -> None:
    machine = _started()
    machine.handle(e.Stop())
    machine.run(5.0)
    kinds = [type(action) for action in machine.since()]
    assert kinds.count(e.Release) == 2
    assert kinds.count(e.Terminate) == 3
    assert kinds.index(e.Leave) > max(i for i, kind in enumerate(kinds) if kind is e.Release)
    assert kinds[-1] is e.Exit
    assert machine.fleet.next_due(machine.now) == float("inf")


def test_a_stop_during_a_reload() -> None:
    machine = _started()
    machine.handle(e.Reload())
    machine.run(1.05)
    machine.handle(e.Stop())
    machine.run(5.0)
    assert machine.since(e.Exit)[-1] == e.Exit(0)


def test_a_stop_before_any_worker_is_ready() -> None:
    machine = Machine()
    machine.handle(e.Stop())
    machine.run(1.0)
    assert machine.since(e.Exit, e.Leave) == [e.Exit(0)]


def test_a_worker_that_does_not_end_is_killed_and_the_supervisor_exits_with_its_status() -> None:
    machine = _started()
    machine.processes[1].drain_s = None
    machine.handle(e.Stop())
    machine.run(25.0)
    assert machine.since(e.Kill, e.Exit)[-2:] == [e.Kill(1, "it did not release its partitions in time"), e.Exit(9)]


def test_unanswered_records_make_the_exit_status_1() -> None:
    machine = _started(workers=1, standby=0)
    machine.processes[0].release_s = None
    machine.handle(e.Stop())
    machine.processes[0].holds.clear()
    machine.handle(e.Released(0, topic(*range(6)), unanswered=3))
    machine.run(1.0)
    assert machine.since(e.Exit) == [e.Exit(1)]


def test_a_worker_with_wrong_settings_stops_the_supervisor() -> None:
    machine = Machine()
    machine.die(0, 2)
    machine.run(1.0)
    assert machine.since(e.Exit) == [e.Exit(2)]


def test_a_worker_that_ends_too_often_stops_the_supervisor() -> None:
    machine = _started(max_restarts=1)
    machine.die(0)
    machine.run_until(lambda: machine.is_quiet)
    machine.die(0)
    machine.run(30.0)
    assert machine.since(e.Exit) == [e.Exit(11)]


# Partitions whose workers die repeatedly.


def _poison(machine: Machine, number: int) -> None:
    """The reader of a partition dies twice at the same position."""
    partition = ("t", number)
    machine.poisoned.add(partition)
    for _ in range(2):
        machine.run_until(lambda: any(partition in reads for reads in machine.placing.values()))
        machine.die(machine.reader(partition))


@pytest.mark.parametrize(("workers", "standby"), [(2, 1), (1, 1), (2, 0), (3, 0), (1, 2)])
def test_a_suspect_gets_its_own_process_until_it_is_healthy(workers: int, standby: int) -> None:
    machine = _started(workers=workers, standby=standby)
    _poison(machine, 0)
    machine.run_until(lambda: topic(0) in machine.placing.values())
    machine.run_until(lambda: machine.fleet.held == topic(*range(6)))
    machine.poisoned.clear()
    machine.deaths.clear()
    machine.run_until(lambda: machine.is_quiet)


def test_the_suspects_process_is_in_addition_to_the_active_ones() -> None:
    machine = _started()
    _poison(machine, 0)
    machine.run(10.0)
    assert len(machine.numbers("active")) == 3
    machine.poisoned.clear()
    machine.deaths.clear()
    machine.run_until(lambda: machine.is_quiet)
    assert len(machine.numbers("active")) == 2


def test_a_supervisor_of_one_process_lets_suspects_share_it() -> None:
    machine = _started(workers=1, standby=0)
    _poison(machine, 0)
    machine.run_until(lambda: machine.is_quiet)
    assert machine.placing == {0: topic(*range(6))}


def test_a_suspect_waits_at_most_30_s_for_a_second_process() -> None:
    machine = _started(workers=1)
    _poison(machine, 0)
    machine.start_s = None
    machine.run_until(lambda: bool(machine.numbers("active")) or len(machine.processes) == 2)
    numbers = list(machine.processes)
    machine.later(0.0, numbers[0], machine.be_ready)
    machine.run(10.0)
    assert not _is_read(machine, 0)
    machine.run(30.0)
    assert machine.placing == {numbers[0]: topic(*range(6))}


def test_the_healthy_partitions_come_first_when_only_the_suspects_process_is_left() -> None:
    machine = _started(workers=1)
    _poison(machine, 0)
    machine.run(10.0)
    alone = machine.reader(("t", 0))
    other = machine.reader(("t", 1))
    assert alone != other
    machine.start_s = 10.0
    machine.die(other)
    machine.run(1.0)
    assert machine.placing == {alone: topic(1, 2, 3, 4, 5)}


def test_a_beat_during_a_release_does_not_make_a_suspect_healthy() -> None:
    machine = _started()
    _poison(machine, 0)
    machine.run(10.0)
    assert machine.fleet.suspects == topic(0)
    machine.rebalance(topic(*range(6)))
    machine.handle(e.Beat(next(n for n, w in machine.fleet.workers.items() if ("t", 0) in w.held)))
    machine.run(0.3)
    assert machine.fleet.suspects == topic(0)


def test_a_suspect_that_a_worker_reports_is_moved_to_a_process_of_its_own() -> None:
    machine = _started()
    reader = machine.reader(("t", 0))
    machine.deaths[("t", 0)] = 2
    machine.run(2.0)
    assert machine.reader(("t", 0)) != reader
    assert machine.placing[machine.reader(("t", 0))] == topic(0)


def test_a_reload_without_standby_goes_on_while_a_partition_is_suspect() -> None:
    machine = _started(standby=0)
    _poison(machine, 0)
    machine.run(5.0)
    machine.handle(e.Reload())
    machine.run_until(lambda: not machine.fleet.is_reloading)


def test_shares_of_healthy_partitions_are_balanced_while_one_is_suspect() -> None:
    machine = _started(partitions=range(8))
    machine.deaths[("t", 0)] = 2
    machine.run(5.0)
    machine.die(machine.reader(("t", 1)))
    machine.run(20.0)
    loads = sorted(len(reads) for reads in machine.placing.values())
    assert loads == [1, 3, 4]


def _is_read(machine: Machine, number: int) -> bool:
    return any(("t", number) in reads for reads in machine.placing.values())


def test_a_partition_that_cannot_be_opened_stops_no_reload_and_is_named() -> None:
    machine = _started()
    machine.leaderless = topic(4)
    machine.handle(e.Reload())
    machine.run_until(lambda: machine.is_quiet)
    assert machine.fleet.unread == topic(4)
    assert all(worker.generation == 1 for worker in machine.fleet.workers.values())
    machine.leaderless = frozenset()
    machine.run(1.5)
    assert machine.fleet.unread == set()
    assert machine.is_quiet


def test_partitions_are_balanced_while_one_cannot_be_opened_and_it_can_move() -> None:
    machine = Machine(range(4), standby=0)
    machine.leaderless = topic(3)
    machine.processes[1].hung = True
    machine.run(5.0)
    assert machine.placing == {0: topic(0, 1, 2)}
    machine.processes[1].hung = False
    machine.later(0.0, 1, machine.be_ready)
    machine.run(2.0)
    assert {n: len(worker.held) for n, worker in machine.fleet.workers.items()} == {0: 2, 1: 2}
    assert topic(3) <= machine.fleet.workers[1].held
    assert machine.fleet.unread == topic(3)
    machine.leaderless = frozenset()
    machine.run(1.5)
    assert machine.reader(("t", 3)) == 1
    assert machine.fleet.unread == set()
