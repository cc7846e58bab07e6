"""The action after the end of a process of a run; pure, the launcher executes it."""

from collections.abc import Sequence
from typing import Literal

from model_training.distributed.cluster import Task

Action = Literal["go_on", "restart", "restart_all", "finish", "fail"]

FATAL = 2
"""Exit status of an error that a restart would meet again."""


class Supervision:
    """Decides the action after each exit, until the run is finished or has failed.

    Invariants:
    (1) A run has at most `restarts` restarts, each of one process or of all.
    (2) The death of a worker restarts only this worker. The death of the chief or of a parameter server, whose state no
        other process has, restarts all processes from the last checkpoint. Without parameter servers every death
        restarts all processes, because each process waits for all others.
    (3) The run is finished when all computing processes have ended, the chief with status 0, and not before.
    """

    def __init__(self, tasks: Sequence[Task], *, restarts: int) -> None:
        self._computing = frozenset(task for task in tasks if task.role != "ps")
        self._alone: Action = "restart" if any(task.role == "ps" for task in tasks) else "restart_all"
        self._done: set[Task] = set()
        self._left = restarts

    @property
    def chief_is_done(self) -> bool:
        """Whether the model is trained and saved; the other processes no longer matter."""
        return any(task.role == "chief" for task in self._done)

    def ended(self, task: Task, status: int) -> Action:
        """The action after the exit of `task` with `status`, which is negative for a signal."""
        if task.role == "ps":
            # A parameter server ends when all have signed off; its exit may be seen before theirs.
            return "go_on" if status == 0 or self.chief_is_done else self._restart("restart_all", status)
        if status != 0 and not self.chief_is_done:
            return self._restart("restart_all" if task.role == "chief" else self._alone, status)
        # The model is saved, so the death of a worker counts as its end.
        self._done.add(task)
        return "finish" if self._done == self._computing else "go_on"

    def _restart(self, action: Action, status: int) -> Action:
        if status == FATAL or not self._left:
            return "fail"
        self._left -= 1
        if action == "restart_all":
            self._done.clear()
        return action
