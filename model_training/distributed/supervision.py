"""What to do when a process of a run has ended; pure, the launcher acts on it."""

from collections.abc import Sequence
from typing import Literal

from model_training.distributed.cluster import Task

Action = Literal["go_on", "restart", "restart_all", "finish", "fail"]

REFUSED = 2
"""Exit status of a process that says what is wrong in one line: another start would say it again."""


class Supervision:
    """Decides, exit by exit, until the run is finished or has failed.

    Invariants: (1) at most `restarts` restarts, of one process or of all, in a run; (2) a worker's death restarts that
    worker alone; that of the chief or of a parameter server, which hold what nobody else has, restarts all processes,
    from the last checkpoint, and so does any death where there are no parameter servers, because all wait for all;
    (3) the run is finished when all that compute have ended, the chief well, and only then.
    """

    def __init__(self, tasks: Sequence[Task], *, restarts: int) -> None:
        self._computing = frozenset(task for task in tasks if task.role != "ps")
        self._alone: Action = "restart" if any(task.role == "ps" for task in tasks) else "restart_all"
        self._done: set[Task] = set()
        self._left = restarts

    @property
    def chief_is_done(self) -> bool:
        """Whether the model is trained and saved, whatever the others do."""
        return any(task.role == "chief" for task in self._done)

    def ended(self, task: Task, status: int) -> Action:
        """What follows from the exit of `task` with `status`, negative for a signal."""
        if task.role == "ps":
            # Parameter servers leave when all have signed off, which may be noticed before the exits of those are.
            return "go_on" if status == 0 or self.chief_is_done else self._restart("restart_all", status)
        if status != 0 and not self.chief_is_done:
            return self._restart("restart_all" if task.role == "chief" else self._alone, status)
        # With the model saved, a worker that dies is as good as one that is done.
        self._done.add(task)
        return "finish" if self._done == self._computing else "go_on"

    def _restart(self, action: Action, status: int) -> Action:
        if status == REFUSED or not self._left:
            return "fail"
        self._left -= 1
        if action == "restart_all":
            self._done.clear()
        return action
