"""The action after the end of a process, without processes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_training.distributed.cluster import Cluster, Task
from model_training.distributed.pace import Pace
from model_training.distributed.supervision import Supervision

_TASKS = Cluster(("a:1",), "b:1", ("c:1", "d:1")).tasks
_PS, _CHIEF, _ONE, _TWO = _TASKS
_KILLED = -9


def _supervision(restarts: int = 2) -> Supervision:
    return Supervision(_TASKS, restarts=restarts)


@pytest.mark.parametrize(("task", "action"), [(_ONE, "restart"), (_CHIEF, "restart_all"), (_PS, "restart_all")])
def test_the_death_of_a_worker_restarts_it_alone_and_other_deaths_restart_all(task: Task, action: str) -> None:
    assert _supervision().ended(task, _KILLED) == action


@pytest.mark.parametrize("task", [_CHIEF, _ONE], ids=str)
def test_without_parameter_servers_any_death_restarts_all(task: Task) -> None:
    assert Supervision([_CHIEF, _ONE, _TWO], restarts=1).ended(task, _KILLED) == "restart_all"


def test_restarts_are_bounded_over_all_processes() -> None:
    supervision = _supervision()
    actions = [supervision.ended(task, _KILLED) for task in (_ONE, _CHIEF, _TWO)]
    assert actions == ["restart", "restart_all", "fail"]


@pytest.mark.parametrize("task", _TASKS, ids=str)
def test_a_fatal_exit_is_not_restarted(task: Task) -> None:
    assert _supervision().ended(task, 2) == "fail"


def test_a_run_is_finished_when_all_computing_processes_are_done() -> None:
    supervision = _supervision()
    assert [supervision.ended(task, 0) for task in (_ONE, _CHIEF)] == ["go_on", "go_on"]
    assert supervision.chief_is_done
    assert supervision.ended(_PS, 0) == "go_on"
    assert supervision.ended(_TWO, 0) == "finish"


def test_with_the_model_saved_no_death_matters() -> None:
    supervision = _supervision(restarts=0)
    supervision.ended(_CHIEF, 0)
    assert [supervision.ended(task, _KILLED) for task in (_PS, _ONE, _TWO)] == ["go_on", "go_on", "finish"]


def test_after_a_restart_of_all_no_process_counts_as_done() -> None:
    supervision = _supervision()
    supervision.ended(_ONE, 0)
    assert supervision.ended(_CHIEF, _KILLED) == "restart_all"
    assert [supervision.ended(task, 0) for task in (_CHIEF, _TWO)] == ["go_on", "go_on"]
    assert supervision.ended(_ONE, 0) == "finish"


@given(st.lists(st.tuples(st.sampled_from(_TASKS), st.sampled_from([0, 1, _KILLED])), max_size=30), st.integers(0, 4))
def test_it_never_restarts_more_often_than_allowed(exits: list[tuple[Task, int]], restarts: int) -> None:
    supervision = _supervision(restarts)
    actions = [supervision.ended(task, status) for task, status in exits]
    assert sum(action.startswith("restart") for action in actions) <= restarts


def test_the_pace_is_measured_since_the_previous_report() -> None:
    pace = Pace(100, started=10.0)
    assert pace.line(40, 4000, 0.5, now=13.0) == "step 40/100, loss 0.5000, first after 3 s"
    assert pace.line(50, 5000, 0.4, now=15.0) == "step 50/100, loss 0.4000, 500 examples/s, 0:10 left"
    assert pace.line(100, 10000, 0.3, now=17.0) == "step 100/100, loss 0.3000, 2,500 examples/s"
