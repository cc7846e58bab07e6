"""How fast a run goes and when it will be done; pure."""


class Pace:
    """Speed since the report before, and the time that the rest takes at this speed.

    The first report tells no speed: a run that goes on from a checkpoint begins with steps that it has not made itself.
    """

    def __init__(self, steps: int, *, started: float) -> None:
        self._steps = steps
        self._before: tuple[int, int, float] | None = None
        self._started = started

    def line(self, steps: int, examples: int, loss: float, *, now: float) -> str:
        """One report, as a line.

        Args:
            steps, examples: done so far in the whole run.
            loss: mean log loss since the report before.
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
