"""Plots of the last ten minutes as inline SVG, without script and style attributes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10

from streamer.ops.metric_history import STEP_S, Point, Window
from streamer.ops.status_numbers import Number, count, duration, percent

_WIDTH, _HEIGHT = 600.0, 120.0
_SPAN_S = 600.0
# A longer pause between two points is a gap in the line.
_MAX_PAUSE_S = 2.5 * STEP_S
# Beyond the bounds of a histogram.
_MAX_S = 1.0


@dataclass(frozen=True, slots=True)
class Line:
    """A line: its legend, and its value over the time since the sample before."""

    name: str
    value: Callable[[Window], float | None]


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot: the text of its numbers, its lines, and a value that the axis shows at least."""

    title: str
    text: Callable[[float | None], Number]
    least: float
    lines: tuple[Line, ...]


def _answer_rate(*statuses: str) -> Callable[[Window], float | None]:
    def rate(window: Window) -> float | None:
        if not window.seconds:
            return None
        found = window.increases("streamer_sink_answers_total", "status")
        return sum(found.get(status, 0.0) for status in statuses) / window.seconds

    return rate


def _quantile(name: str, q: float, **labels: str) -> Callable[[Window], float | None]:
    def value(window: Window) -> float | None:
        found = window.quantile(name, q, **labels) if window.seconds else None
        return None if found is None else min(found, _MAX_S)

    return value


def _oldest(window: Window) -> float | None:
    return max(window.values("streamer_source_lag_seconds", "partition").values(), default=None)


PLOTS = (
    Plot(
        "Requests",
        lambda n: count(n, "/s"),
        1.0,
        (
            Line("received", lambda window: window.rate("streamer_source_records_total")),
            Line("answered ok", _answer_rate("ok")),
        ),
    ),
    Plot(
        "Answers that are not ok",
        lambda n: count(n, "/s"),
        1.0,
        (
            Line("partial, fallback", _answer_rate("partial", "fallback")),
            Line("expired, invalid", _answer_rate("expired", "invalid")),
            Line("late", lambda window: window.rate("streamer_sink_late_answers_total")),
        ),
    ),
    Plot(
        "Scoring time",
        duration,
        0.01,
        (
            Line("99th percentile", _quantile("streamer_stage_seconds", 0.99, stage="total")),
            Line("median", _quantile("streamer_stage_seconds", 0.5, stage="total")),
        ),
    ),
    Plot("Oldest waiting request", duration, 0.1, (Line("age", _oldest),)),
    Plot(
        "Call to the model server",
        duration,
        0.01,
        (
            Line("99th percentile", _quantile("streamer_predictor_seconds", 0.99)),
            Line("median", _quantile("streamer_predictor_seconds", 0.5)),
        ),
    ),
    Plot(
        "Processor",
        lambda share: count(share) if share is None else Number(percent(share).text, "% of a core"),
        1.0,
        (Line("workers", lambda window: window.rate("process_cpu_seconds_total")),),
    ),
)
LINES = tuple(line for plot in PLOTS for line in plot.lines)


def point(window: Window) -> Point:
    """The values of all lines, in the order of `LINES`."""
    return tuple(line.value(window) for line in LINES)


def render(points: Sequence[tuple[float, Point]], now: float) -> str:
    """All plots. `points` have monotonic seconds, as `now`."""
    first, parts = 0, []
    for plot in PLOTS:
        series = [[(at - now, values[first + i]) for at, values in points] for i in range(len(plot.lines))]
        parts.append(_figure(plot, series))
        first += len(plot.lines)
    return f'<div class="plots">{"".join(parts)}</div>'


def _figure(plot: Plot, series: Sequence[Sequence[tuple[float, float | None]]]) -> str:
    values = [value for line in series for _, value in line if value is not None]
    top = _above(max([*values, plot.least]))
    latest = [next((value for _, value in reversed(line) if value is not None), None) for line in series]
    names = [line.name for line in plot.lines]
    said = "; ".join(f"{name} {plot.text(value)}" for name, value in zip(names, latest, strict=True))
    label = f"{plot.title} in the last ten minutes. Now: {said}." if values else f"{plot.title}: no data yet."
    legend = "".join(
        f'<li class="s{i}"><svg viewBox="0 0 20 4" aria-hidden="true"><path d="M0 2H20"/></svg>{escape(name)} '
        f"<b>{escape(str(plot.text(value)))}</b></li>"
        for i, (name, value) in enumerate(zip(names, latest, strict=True))
    )
    lines = "".join(f'<path class="s{i}" d="{_path(line, top)}"/>' for i, line in enumerate(series))
    grid = f'<path class="grid" d="M0 {_HEIGHT / 2:g}H{_WIDTH:g}M{_WIDTH / 2:g} 0V{_HEIGHT:g}"/>'
    empty = "" if values else '<p class="empty">no data yet</p>'
    return (
        f'<figure><figcaption>{escape(plot.title)}</figcaption><span class="top">{escape(str(plot.text(top)))}</span>'
        f'<svg class="plot" role="img" aria-label="{escape(label)}" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" '
        f'preserveAspectRatio="none">{grid}{lines}</svg>{empty}'
        f'<div class="axis" aria-hidden="true"><span>10 min ago</span><span>5</span><span>now</span></div>'
        f'<ul class="legend">{legend}</ul></figure>'
    )


def _path(line: Sequence[tuple[float, float | None]], top: float) -> str:
    """The path of a line, with a gap in each pause; a single point is a short line."""
    parts, before = [], None
    for at, value in line:
        if value is None or at < -_SPAN_S:
            before = None
            continue
        x, y = _WIDTH * (1 + at / _SPAN_S), _HEIGHT * (1 - value / top)
        joined = before is not None and at - before <= _MAX_PAUSE_S
        parts.append(f"L{x:.1f} {y:.1f}" if joined else f"M{x - 2:.1f} {y:.1f}H{x:.1f}")
        before = at
    return "".join(parts)


def _above(value: float) -> float:
    """The next of 1, 2, 5, 10, … times a power of ten that is not below `value`."""
    power = 10.0 ** floor(log10(value))
    return next(power * step for step in (1, 2, 5, 10) if power * step >= value * (1 - 1e-9))
