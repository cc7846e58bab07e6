"""The status page for people: problems first, then the metrics of the last minute."""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from html import escape
from math import inf

from prometheus_client.metrics_core import Metric

from streamer.metrics import STAGES
from streamer.ops.metric_history import MetricHistory, Window

_RELOAD_S = 2
# A larger lag exceeds every usual budget: such requests expire.
_MAX_LAG_S = 1.0
# The writer of a table confirms every few seconds that it is current.
_MAX_AGE_S = 60.0
# A smaller share of imperfect answers is not a problem.
_MAX_BAD_SHARE = 0.01
_STYLE = (
    "body{font:14px/1.5 system-ui,sans-serif;margin:2em}h1{font-size:1.3em;margin:0}"
    "h2{font-size:1em;margin:1.4em 0 .3em}table{border-collapse:collapse}"
    "td,th{padding:.1em 1.5em .1em 0;text-align:right;border-bottom:1px solid #ddd;min-width:8em;font-weight:400}"
    "th{text-align:left;min-width:20em}.bad{color:#b00020;font-weight:600}small{color:#666}"
    "p{margin:.6em 0;padding:.4em .8em;border-left:4px solid #2e7d32}p.bad{border-color:#b00020}"
)
_LINKS = "".join(f' <a href="{page}">{page}</a>' for page in ("/metrics", "/config", "/model"))
_FAILURES = {
    "failed fetches": "streamer_source_fetch_failures_total",
    "failed sends of answers or dead letters": "streamer_sink_send_failures_total",
    "failed commits": "streamer_offsets_commit_failures_total",
    "shed rows": "streamer_batching_shed_rows_total",
    "rollbacks": "streamer_rollout_rollbacks_total",
}
Cell = tuple[str, bool]
"""A text, and whether it shows a problem."""
Rows = Iterator[tuple[str, Cell]]
_NOTHING: Cell = ("–", False)


class StatusPage:
    """Renders the metrics of one or several workers, with rates and times over the last minute."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._history = MetricHistory()

    def render(self, states: Mapping[str, str], families: Iterable[Metric]) -> str:
        """The page as HTML. It reloads itself every 2 s.

        Args:
            states: the state of each worker by its number; the only worker of a process is "".
            families: all metrics; those of several workers have the label `worker`.
        """
        windows = self._history.add(self._clock(), families)
        now = self._wall_clock()
        span = max((window.seconds for window in windows.values()), default=0.0)
        over = f"the last {span:.0f} s" if span else "the time since the start"
        head = "".join(f"<td>worker {escape(worker)}</td>" for worker in states) if "" not in states else ""
        state = {worker: (text, text != "RUNNING") for worker, text in states.items()}
        uptime = {worker: _uptime(window, now) for worker, window in windows.items()}
        sections: dict[str, dict[str, dict[str, Cell]]] = {"": {"state": state, "uptime": uptime}}
        for title, rows in _SECTIONS.items():
            cells = sections.setdefault(title, {})
            for worker, window in windows.items():
                for name, cell in rows(window):
                    cells.setdefault(name, {})[worker] = cell
            sections[title] = dict(sorted(cells.items(), key=_partition))
        tables = "".join(_table(title, rows, states) for title, rows in sections.items())
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>streamer</title>'
            f'<meta http-equiv="refresh" content="{_RELOAD_S}"><style>{_STYLE}</style></head><body><h1>streamer</h1>'
            f"<small>{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M:%S} UTC. Counts, rates and times are of {over}."
            f"{_LINKS}</small>{_summary(sections)}<table><tr><th></th>{head}</tr>{tables}</table></body></html>\n"
        )


def _partition(row: tuple[str, object]) -> int:
    """Sort key: the partition number of a row; -1 for rows without one, which come first."""
    found = re.match(r"partition (\d+)", row[0])
    return -1 if found is None else int(found[1])


def _summary(sections: Mapping[str, Mapping[str, Mapping[str, Cell]]]) -> str:
    """The names of all rows with a problem, in one line."""
    bad = [name for rows in sections.values() for name, cells in rows.items() if any(b for _, b in cells.values())]
    return f'<p class="bad">Problems: {escape("; ".join(bad))}</p>' if bad else "<p>No problems.</p>"


def _table(title: str, rows: Mapping[str, Mapping[str, Cell]], workers: Iterable[str]) -> str:
    lines = [f"<tr><th><h2>{title}</h2></th></tr>"] if title else []
    for name, cells in rows.items():
        found = (cells.get(worker, _NOTHING) for worker in workers)
        columns = "".join(f'<td class="bad">{escape(t)}</td>' if bad else f"<td>{escape(t)}</td>" for t, bad in found)
        lines.append(f"<tr><th>{escape(name)}</th>{columns}</tr>")
    return "".join(lines)


def _lag(window: Window) -> Rows:
    yield "records received per second", _number(window.rate("streamer_source_records_total"))
    yield "records in flight", _number(window.value("streamer_source_in_flight_records"))
    yield "unacknowledged records", _number(window.value("streamer_source_unacknowledged_records"))
    yield "unacknowledged bytes", _bytes(window.value("streamer_source_unacknowledged_bytes"))
    yield "paused partitions", _number(window.value("streamer_source_paused_partitions"), bad=True)
    for partition in sorted(window.label_values("streamer_source_unreadable_partitions", "partition"), key=int):
        yield f"partition {partition}: cannot be opened or read", ("retried", True)
    for partition in sorted(window.label_values("streamer_source_lag_records", "partition"), key=int):
        records = window.value("streamer_source_lag_records", partition=partition) or 0.0
        seconds = window.value("streamer_source_lag_seconds", partition=partition) or 0.0
        yield f"partition {partition}: lag", (f"{records:,.0f} records, {seconds:.1f} s", seconds > _MAX_LAG_S)


def _answers(window: Window) -> Rows:
    answers = window.increases("streamer_sink_answers_total", "status")
    for status, count in answers.items():
        yield f"answers: {status}", _share(count, sum(answers.values()), bad=status != "ok")
    late = window.increase("streamer_sink_late_answers_total")
    yield "answers after their deadline", _share(late, sum(answers.values()), bad=True)
    for stage in STAGES:
        found = window.quantile("streamer_stage_slack_seconds", 0.01, stage=stage)
        yield f"budget left after {stage}: 1st percentile", _at_least(found)


def _times(window: Window) -> Rows:
    for stage in STAGES:
        yield f"{stage}: median, 99th percentile", _within(window, "streamer_stage_seconds", stage=stage)
    yield "call to the model server: median, 99th percentile", _within(window, "streamer_predictor_seconds")
    yield "delay of the event loop: median, 99th percentile", _within(window, "streamer_loop_delay_seconds")


def _models(window: Window) -> Rows:
    for model in window.label_values("streamer_rollout_serving_version", "model"):
        yield f"{model}: serving version", _number(window.value("streamer_rollout_serving_version", model=model))
        share = window.value("streamer_rollout_incoming_share", model=model) or 0.0
        yield f"{model}: users of the incoming version", (f"{share:.0%}", False)
    models = window.label_values("streamer_predictor_circuit_open", "model")
    for address in window.label_values("streamer_predictor_circuit_open", "address"):
        for model in models:
            if (is_open := window.value("streamer_predictor_circuit_open", address=address, model=model)) is not None:
                yield f"circuit of {model} on {address}", ("open" if is_open else "closed", bool(is_open))
    errors = "streamer_predictor_errors_total"
    for model in window.label_values(errors, "model"):
        for code in window.label_values(errors, "code"):
            if window.value(errors, model=model, code=code) is not None:
                yield (
                    f"failed calls of {model}: {code}",
                    _number(window.increase(errors, model=model, code=code), bad=True),
                )
    yield "retries", _number(window.increase("streamer_predictor_retries_total"))
    for outcome, count in window.increases("streamer_shadow_requests_total", "outcome").items():
        yield f"requests to the shadow version: {outcome}", _number(count, bad=outcome == "failed")


def _tables(window: Window) -> Rows:
    for spec in window.label_values("streamer_table_ads", "spec"):
        loaded = window.value("streamer_table_loaded_share", spec=spec) or 0.0
        age_s = window.value("streamer_table_age_seconds", spec=spec) or 0.0
        yield f"spec {spec}: ads", _number(window.value("streamer_table_ads", spec=spec))
        yield f"spec {spec}: memory of the machine", _bytes(window.value("streamer_table_bytes", spec=spec))
        yield f"spec {spec}: loaded", (f"{loaded:.0%}", loaded < 1)
        yield f"spec {spec}: last written", (f"{age_s:.0f} s ago", age_s > _MAX_AGE_S)
        yield f"spec {spec}: changes to read", _number(window.value("streamer_table_lag_records", spec=spec))
    for outcome, count in window.increases("streamer_table_changes_total", "outcome").items():
        yield f"changed ads: {outcome}", _number(count, bad=outcome == "rejected")


def _batches(window: Window) -> Rows:
    yield "concurrency limit (calls)", _number(window.value("streamer_batching_concurrency_limit"))
    yield "queued rows", _number(window.value("streamer_batching_queued_rows"))
    rows = window.quantile("streamer_batching_rows", 0.5)
    yield "rows per batch: median", _NOTHING if rows is None else _number(rows[1])
    for reason, count in window.increases("streamer_batching_batches_total", "reason").items():
        yield f"batches: {reason}", _number(count)
    hits, *others = (window.increase(f"streamer_cache_{n}_total") for n in ("hits", "misses", "single_flight"))
    looked_up = hits + sum(others)
    yield "cache hit ratio", (f"{hits / looked_up:.1%}", False) if looked_up else _NOTHING


def _failures(window: Window) -> Rows:
    yield "commits", _number(window.increase("streamer_offsets_commits_total"))
    for outcome, count in window.increases("streamer_delivery_transactions_total", "outcome").items():
        yield f"transactions: {outcome}", _number(count, bad=outcome != "committed")
    yield "isolated partitions", _number(window.value("streamer_delivery_isolated_partitions"), bad=True)
    for name, metric in _FAILURES.items():
        counts = [window.increase(metric, **dict(labels)) for labels in window.now.values.get(metric, {})]
        yield name, _number(sum(counts), bad=True)
    for stage, count in window.increases("streamer_sink_dead_letters_total", "stage").items():
        yield f"dead letters: {stage}", _number(count, bad=True)


def _process(window: Window) -> Rows:
    cores = window.rate("process_cpu_seconds_total")
    yield "cores in use", _NOTHING if cores is None else (f"{cores:.2f}", False)
    yield "memory", _bytes(window.value("process_resident_memory_bytes"))
    yield "open descriptors", _number(window.value("process_open_fds"))


_SECTIONS: Mapping[str, Callable[[Window], Rows]] = {
    "Is there a lag?": _lag,
    "Does it answer in time?": _answers,
    "Where does the time go?": _times,
    "Is the model server healthy?": _models,
    "Are the ads current?": _tables,
    "Do batches fill, does the cache pay?": _batches,
    "Does something fail?": _failures,
    "How is the process?": _process,
}


def _number(value: float | None, *, bad: bool = False) -> Cell:
    """A number; with `bad`, a number above 0 is a problem."""
    if value is None:
        return _NOTHING
    if value == inf:
        return "more", bad
    return f"{value:,.0f}" if value == int(value) or value >= 100 else f"{value:.1f}", bad and value > 0


def _bytes(value: float | None) -> Cell:
    return _NOTHING if value is None else (f"{value / 2**20:,.1f} MiB", False)


def _uptime(window: Window, now: float) -> Cell:
    started = window.value("process_start_time_seconds")
    return _NOTHING if started is None else (str(timedelta(seconds=round(now - started))), False)


def _share(count: float, of: float, *, bad: bool) -> Cell:
    """A count with its share; with `bad`, a share above 1 % is a problem."""
    share = count / of if of else 0.0
    return f"{count:,.0f}" + (f" ({share:.1%})" if count else ""), bad and share > _MAX_BAD_SHARE


def _within(window: Window, name: str, **labels: str) -> Cell:
    """The upper bounds of median and 99th percentile, in milliseconds."""
    found = [window.quantile(name, q, **labels) for q in (0.5, 0.99)]
    text = " / ".join("–" if bounds is None else _milliseconds(bounds[1]) for bounds in found)
    return (f"{text} ms", False) if any(found) else _NOTHING


def _at_least(bounds: tuple[float, float] | None) -> Cell:
    """The lower bound of a quantile, in milliseconds."""
    if bounds is None:
        return _NOTHING
    return (f"{_milliseconds(bounds[0])} ms", False) if bounds[0] >= 0 else ("none", True)


def _milliseconds(seconds: float) -> str:
    return "more" if seconds == inf else f"{seconds * 1e3:g}"
