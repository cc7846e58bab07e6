"""Sizes the slices in which changes are encoded, and the pauses between them. Pure."""

from dataclasses import dataclass

MAX_SLICE_S = 0.002
"""Longest time that one slice may block the event loop."""
# Slices vary: those of this length stay below the longest.
_SLICE_S = 0.001
_MIN_ROWS, _MAX_ROWS = 8, 1024
# A loop that resumes the writer so late has other work.
_BUSY_S = 0.001
# A busy loop gives the table a fifth of its time: about 15,000 changes/s.
_PAUSE = 4.0
_MAX_PAUSE_S = 0.01


@dataclass(slots=True)
class Pace:
    """Follows the measured time per row, so that a slice takes about 1 ms.

    1. A slice of rows that take as long as those before takes at most 2 ms, from the second slice on.
    2. While the loop has other work, the slices take at most a fifth of its time, or the pause is 10 ms.

    Attributes:
        rows: the records of the next slice.
    """

    rows: int = 32
    _last_s: float = 0.0
    _is_busy: bool = False

    def took(self, rows: int, seconds: float) -> None:
        """A slice of so many records took so long."""
        self._last_s = seconds
        # A few rows take mostly the time that any slice takes: they say nothing about many.
        if seconds > _SLICE_S or rows >= self.rows:
            fitting = rows * _SLICE_S / seconds if seconds > 0 else _MAX_ROWS
            self.rows = round(min(max(fitting, _MIN_ROWS), 2 * self.rows, _MAX_ROWS))

    def resumed(self, late_s: float) -> None:
        """After the pause the loop resumed the writer so many seconds late."""
        self._is_busy = late_s > _BUSY_S

    @property
    def pause_s(self) -> float:
        """The pause before the next slice, in seconds."""
        return min(_PAUSE * self._last_s, _MAX_PAUSE_S) if self._is_busy else 0.0
