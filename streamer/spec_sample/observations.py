"""What a sample has at one path: how often, how many different values, of which type. Pure."""

from collections import Counter
from dataclasses import dataclass, field

from streamer.features.hashing import canonical
from streamer.spec_sample.walk import Found

MAX_DISTINCT = 20_000
"""Different values of one path that are counted."""


@dataclass(slots=True)
class Observations:
    """The values at one path.

    Invariants: (1) `items` ≥ `records` unless the values are of no use; (2) at most `MAX_DISTINCT` values are counted.

    Attributes:
        records: objects with at least one value.
        items: values in all of them.
        counts: number of each value, by its text as the encoder hashes it.
        types: number of values by type: text, integer, decimal, boolean.
        lengths: number of objects by their number of values.
        longest: elements of the longest list of objects on the path.
        has_lists: whether an object has a list there.
        fault: why no feature can have this path.
    """

    records: int = 0
    items: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
    longest: int = 0
    has_lists: bool = False
    fault: str | None = None

    def add(self, found: Found) -> None:
        """Counts the values of one object."""
        self.fault = found.fault or self.fault
        self.longest = max(self.longest, found.longest)
        self.has_lists |= found.is_list
        if not found.values:
            return
        self.records += 1
        self.items += len(found.values)
        self.lengths[len(found.values)] += 1
        for value in found.values:
            self.types[_type(value)] += 1
            text = canonical(value)
            if text is not None and (text in self.counts or len(self.counts) < MAX_DISTINCT):
                self.counts[text] += 1

    @property
    def distinct(self) -> int:
        """Number of different values, at most `MAX_DISTINCT`."""
        return len(self.counts)

    @property
    def expected_distinct(self) -> int:
        """Different values that the whole traffic has at least.

        Chao's estimate: d + a (a - 1) / (2 (b + 1)), for d different values, of which a occur once and b twice.
        A. Chao: Nonparametric estimation of the number of classes in a population (1984).
        """
        occurring = Counter(self.counts.values())
        once, twice = occurring[1], occurring[2]
        return self.distinct + once * (once - 1) // (2 * (twice + 1))


def _type(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    return "decimal" if isinstance(value, float) else "text"
