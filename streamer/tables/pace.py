"""Sizes the slices in which changes are encoded, and the pauses between them. Pure."""

from dataclasses import dataclass

MAX_SLICE_S = 0.002
"""Longest time that a slice may block the event loop."""
# Slices vary: those of this length stay below the longest.
_SLICE_S = 0.0012
# Small slices cost more per row. While no version is scored, long ones delay nobody.
_ALONE_S = 0.01
_MIN_ROWS, _MAX_ROWS = 8, 1024
# A loop that resumes the writer so late has other work.
_BUSY_S = 0.001
# A busy loop gives the table a fifth of its time: about 6,000 changes/s.
_PAUSE = 4.0
_MAX_PAUSE_S = 0.02


@dataclass(slots=True)
class Pace:
    """Follows the measured time per row: a slice takes 1.2 ms, or 10 ms while the loop is alone.

    1. After the first full batch, a slice of rows that cost as much as those before takes at most 2 ms.
    2. While the loop has other work, the table takes at most a fifth of its time, or pauses 20 ms after each slice.

    Attributes:
        rows: the records of the next batch. It is read, encoded and applied in one slice each.
        is_alone: whether no version is scored in this process.
    """

    rows: int = 32
    is_alone: bool = False
    _is_busy: bool = False

    def took(self, rows: int, longest_s: float) -> None:
        """The longest slice of a batch of so many records took so long."""
        wanted_s = _ALONE_S if self.is_alone else _SLICE_S
        # A few rows take mostly the time that any slice takes: they say nothing about many.
        if longest_s > wanted_s or rows >= self.rows:
            fitting = rows * wanted_s / longest_s if longest_s > 0 else _MAX_ROWS
            self.rows = round(min(max(fitting, _MIN_ROWS), 2 * self.rows, _MAX_ROWS))

    def serve(self) -> None:
        """A version is scored in this process from now on."""
        if self.is_alone:
            self.is_alone = False
            self.rows = max(_MIN_ROWS, round(self.rows * _SLICE_S / _ALONE_S))

    def resumed(self, late_s: float) -> None:
        """After the pause the loop resumed the writer so many seconds late."""
        self._is_busy = late_s > _BUSY_S

    def pause_s(self, slice_s: float) -> float:
        """The pause after a slice that took so long, in seconds."""
        return min(_PAUSE * slice_s, _MAX_PAUSE_S) if self._is_busy and not self.is_alone else 0.0
