"""The status page for people: problems, plots of ten minutes, numbers of a minute."""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from html import escape

from aiohttp import web
from prometheus_client.metrics_core import Metric

from streamer.ops import status_health, status_plots, status_rows
from streamer.ops.metric_history import STEP_S, MetricHistory, Window, merged
from streamer.ops.status_numbers import NOTHING, duration
from streamer.ops.status_rows import Row, Rows
from streamer.ops.status_style import HEADERS, STYLE

_LOGGER = logging.getLogger("streamer.ops")
_RELOAD_S = 5
_LINKS = ("/metrics", "/config", "/model", "/readyz")
_GOOD_STATES = frozenset({"RUNNING", "STANDBY"})
_NO_ROW = Row("", NOTHING, "")
_SECTIONS: Mapping[str, Callable[[Window], Rows]] = {
    "Is there a lag?": status_rows.requests,
    "Does it answer in time?": status_rows.answers,
    "Where does the time go?": status_rows.times,
    "Is the model server healthy?": status_health.models,
    "Are the ads current?": status_health.ads,
    "Do the features make sense?": status_rows.features,
    "Do batches fill, does the cache pay?": status_health.batches,
    "Does something fail?": status_health.failures,
    "How do requests over HTTP end?": status_health.http,
    "Do all workers run?": status_health.workers,
    "How is the process?": status_rows.process,
}


class StatusPage:
    """Renders the metrics of one or several workers.

    Between two requests it only takes a sample of the metrics every `STEP_S` seconds, so the first page in an
    incident has its last ten minutes.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._history = MetricHistory()

    def sample(self, families: Iterable[Metric]) -> None:
        """Adds a sample to the history."""
        now = self._clock()
        windows = self._history.add(now, families)
        if (whole := merged(windows.values())) is not None:
            self._history.points.append((now, status_plots.point(whole)))

    async def watch(self, collect: Callable[[], Awaitable[Iterable[Metric]]]) -> None:
        """Samples the metrics until it is cancelled. An error leaves a gap in the history."""
        while True:
            try:
                self.sample(await collect())
            except Exception:  # of the page, which must not end the process
                _LOGGER.exception("no sample for the status page")
            await asyncio.sleep(STEP_S)

    def response(self, states: Mapping[str, str], families: Iterable[Metric], *, reloads: bool) -> web.Response:
        """The page as `render` has it, with headers that forbid everything else."""
        text = self.render(states, families, reloads=reloads)
        return web.Response(text=text, content_type="text/html", headers=HEADERS)

    def render(self, states: Mapping[str, str], families: Iterable[Metric], *, reloads: bool = True) -> str:
        """The page as HTML, which loads no other resource.

        Args:
            states: the state of each worker by its number; the only worker of a process is "".
            families: all metrics; those of several workers have the label `worker`.
            reloads: whether the page reloads itself every 5 s.
        """
        now = self._clock()
        windows = self._history.window(now, families)
        whole = merged(windows.values())
        sections = {} if whole is None else {title: list(rows(whole)) for title, rows in _SECTIONS.items()}
        by_worker: dict[str, dict[str, dict[str, Row]]] = {}
        if "" not in states:
            by_worker = {
                worker: {title: {row.name: row for row in rows(windows[worker])} for title, rows in _SECTIONS.items()}
                for worker in states
                if worker in windows
            }
        tables = "".join(
            _section(title, rows, {worker: by_worker.get(worker, {}).get(title, {}) for worker in states})
            for title, rows in sections.items()
            if rows
        )
        problems = [says for worker, text in states.items() if (says := _problem(worker, text))]
        problems += [
            f"{row.name}: {row.says}" for rows in sections.values() for row in rows if row.is_bad and not row.is_detail
        ]
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>streamer status</title>'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            + (f'<meta http-equiv="refresh" content="{_RELOAD_S}">' if reloads else "")
            + f"<style>{STYLE}</style></head><body>{self._header(states, whole, reloads=reloads)}<main>"
            f"{_verdict(problems)}{status_plots.render(self._history.points, now)}"
            f'<div class="sections{"" if "" in states else " many"}">{tables}</div></main></body></html>\n'
        )

    def _header(self, states: Mapping[str, str], whole: Window | None, *, reloads: bool) -> str:
        now = self._wall_clock()
        started = None if whole is None else whole.value("process_start_time_seconds")
        since = "" if started is None else f"Up {duration(now - started)}. "
        bad = any(_problem(worker, text) for worker, text in states.items())
        state = states.get("", f"{len(states)} processes")
        seconds = 0.0 if whole is None else whole.seconds
        over = f"the last {seconds:.0f} s" if seconds else "the time since the start"
        change = '<a href="?pause">stop reloading</a>' if reloads else '<a href="?">reload every 5 s</a>'
        links = "".join(f'<a href="{page}">{page}</a>' for page in _LINKS)
        return (
            f'<header><h1>streamer</h1><span class="state{" bad" if bad else ""}">{escape(state)}</span>'
            f'<span class="soft">{since}It is {datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M:%S} UTC. '
            f"Numbers are of {over}; {change}.</span><nav>{links}</nav></header>"
        )


def _problem(worker: str, state: str) -> str | None:
    """The sentence about a worker that does not score; None if it does or stands by."""
    if state in _GOOD_STATES:
        return None
    return f"worker {worker}: {state}" if worker else f"state: {state}"


def _verdict(problems: list[str]) -> str:
    if not problems:
        return '<div class="verdict" role="status"><p>No problems.</p></div>'
    items = "".join(f"<li>{_text(text)}</li>" for text in problems)
    title = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return f'<div class="verdict bad" role="status"><p>{title}</p><ul>{items}</ul></div>'


def _section(title: str, rows: list[Row], by_worker: Mapping[str, Mapping[str, Row]]) -> str:
    """A table: a column for all workers and, if several have such rows, one for each."""
    head = focus = ""
    workers = [*by_worker] if any(by_worker.values()) else []
    if workers:
        focus = ' tabindex="0"'  # a wide table scrolls, also by keyboard
        names = "".join(f'<th scope="col">{escape(worker)}</th>' for worker in ("all", *workers))
        head = f'<thead><tr><th scope="col">worker</th>{names}</tr></thead>'
    lines = []
    for row in rows:
        found = (by_worker[worker].get(row.name, _NO_ROW) for worker in workers)
        cells = "".join(map(_cell, (row, *found)))
        name = f'<th scope="row">{escape(row.name)}<small>{_text(row.says)}</small></th>'
        lines.append(f"<tr{_mark(row)}>{name}{cells}</tr>")
    return (
        f'<section{focus} aria-label="{escape(title)}"><h2>{escape(title)}</h2>'
        f"<table>{head}<tbody>{''.join(lines)}</tbody></table></section>"
    )


def _text(says: str) -> str:
    """A sentence as HTML, with its `code`."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(says))


def _mark(row: Row) -> str:
    return ' class="bad"' if row.is_bad else ""


def _cell(row: Row) -> str:
    return f"<td{_mark(row)}>{escape(row.number.text)}<i>{escape(row.number.unit)}</i></td>"
