"""Speed and remaining time of a run; pure."""


class Pace:
    """Speed since the previous report, and the remaining time at this speed.

    The first report has no speed, because a continued run starts with steps that this process did not make.
    """

    def __init__(self, steps: int, *, started: float) -> None:
        self._steps = steps
        self._before: tuple[int, int, float] | None = None
        self._started = started

    def line(self, steps: int, examples: int, loss: float, *, now: float) -> str:
        """One report, as a line.

        Args:
            steps, examples: done so far in the whole run.
            loss: mean log loss since the previous report.
            now: seconds, monotonic.
        """
        parts = [f"step {steps:,}/{self._steps:,}", f"loss {loss:.4f}"]
        if self._before is not None and now > self._before[2] and steps > self._before[0]:
            seconds = now - self._before[2]
            left = round((self._steps - steps) * seconds / (steps - self._before[0]))
            parts += [f"{(examples - self._before[1]) / seconds:,.0f} examples/s"]
            parts += [f"{left // 60}:{left % 60:02d} left"] if left > 0 else []
        elif self._before is None:
            parts += [f"first after {now - self._started:.0f} s"]
        self._before = steps, examples, now
        return ", ".join(parts)
