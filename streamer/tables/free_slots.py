"""The free slots of a table. Pure."""

from collections import deque

import numpy as np

from streamer.tables.index import Places


class FreeSlots:
    """Slots without an ad. A slot that an ad has left can be used again only at a given time.

    Invariant: no slot is taken twice without being given back in between, and none before its time.
    """

    def __init__(self, fresh: int) -> None:
        """Slots from `fresh` on have never been used."""
        self._fresh = fresh
        self._left: deque[tuple[float, Places]] = deque()

    def give(self, slots: Places, usable_at: float) -> None:
        """Slots that ads have left; `usable_at` never decreases from call to call."""
        if len(slots):
            self._left.append((usable_at, slots))

    def take(self, count: int, end: int, now: float) -> Places | None:
        """Takes slots, int64 [count], fresh ones below `end`. None: too few can be used now."""
        parts: list[Places] = []
        missing = count
        for usable_at, slots in self._left:
            if usable_at > now or not missing:
                break
            parts.append(slots[:missing])
            missing -= len(parts[-1])
        if missing > end - self._fresh:
            return None
        for part in parts:
            usable_at, slots = self._left.popleft()
            if len(part) < len(slots):
                self._left.appendleft((usable_at, slots[len(part) :]))
        parts.append(np.arange(self._fresh, self._fresh + missing, dtype=np.int64))
        self._fresh += missing
        return np.concatenate(parts)
