"""Narrow numbers with short units, for the status page."""

from math import isinf
from typing import NamedTuple


class Number(NamedTuple):
    """A number as text, and its unit."""

    text: str
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.unit}".strip()


NOTHING = Number("–")
_TIMES = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"))


def digits(value: float) -> str:
    """At most three digits after which no zero follows: 0.25, 3, 12.5, 512, 7,340."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{1 if abs(value) >= 10 else 2}f}".rstrip("0").rstrip(".")


def count(value: float | None, unit: str = "") -> Number:
    """A count: 512, 12.3 k, 1.2 M; with a unit such as `/s` 512 /s, 12.3 k/s."""
    if value is None:
        return NOTHING
    if value >= 1e4:
        unit_size, prefix = next((n, p) for n, p in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if value >= n)
        return Number(digits(value / unit_size), prefix + unit)
    return Number(digits(value), unit)


def duration(seconds: float | None) -> Number:
    """A time: 0.25 ms, 12 ms, 1.5 s, 3 min, 2 h, 5 d."""
    if seconds is None:
        return NOTHING
    if isinf(seconds):
        return Number("> 1" if seconds > 0 else "< 0", "s")
    for size, unit in _TIMES:
        if seconds >= (size if unit == "s" else 2 * size):
            return Number(digits(seconds / size), unit)
    return Number(digits(seconds * 1e3), "ms")


def size(value: float | None) -> Number:
    """Bytes: 512 B, 12.3 kB, 88 MB, 1.2 GB."""
    if value is None:
        return NOTHING
    for unit_size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= unit_size:
            return Number(digits(value / unit_size), unit)
    return Number(digits(value), "B")


def percent(share: float | None) -> Number:
    """A share: 100 %, 3.2 %. Almost all is 99.9 %, almost nothing 0.01 %."""
    if share is None:
        return NOTHING
    if 0.999 < share < 1:
        return Number("99.9", "%")
    return Number(digits(round(share * 100, 1) or (0.01 if share else 0.0)), "%")


def plural(n: float, one: str, many: str | None = None) -> str:
    """`1 request`, `2 requests`, `12.3 k requests`."""
    return f"{count(n)} {one if n == 1 else many or one + 's'}"
