"""Rows of the status page about requests, answers, times and the process."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

from streamer.metrics import STAGES
from streamer.ops.metric_history import Window
from streamer.ops.status_numbers import NOTHING, Number, count, duration, percent, plural, size

# A larger lag exceeds every usual budget: such requests expire.
_MAX_LAG_S = 1.0
# A smaller share of imperfect answers is not a problem.
_MAX_BAD_SHARE = 0.01
_MAX_DELAY_S = 0.05
_SHOWN_PARTITIONS = 8
_SHOWN_FEATURES = 5
_MEANINGS = {
    "partial": ("answer has", "answers have", "priors for some ads"),
    "fallback": ("answer has", "answers have", "priors in place of the model's scores"),
    "expired": ("request was", "requests were", "too old to score"),
    "invalid": ("request has", "requests have", "a field that cannot be scored"),
}
_WORK = {
    "decode": "Parses the record",
    "encode": "Turns the request into rows",
    "queue": "Waits for a batch and a free call",
    "predict": "Waits for the model server",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line: a name, a number, and one sentence that says what the number means now.

    Attributes:
        is_detail: another row names its problem, too.
    """

    name: str
    number: Number
    says: str
    is_bad: bool = False
    is_detail: bool = False


Rows = Iterator[Row]


def requests(window: Window) -> Rows:
    """Requests that arrive and wait."""
    received, rate = "streamer_source_records_total", window.rate("streamer_source_records_total")
    arrived = window.increase(received)
    candidates = window.increase("streamer_codec_candidates_total")
    says = "No request arrived."
    if arrived:
        says = f"{plural(arrived, 'request')} arrived, with {digits_per(candidates, arrived)} ads on average."
    yield Row("received", count(rate, "/s"), says)
    yield from _lag(window)
    in_flight = window.value("streamer_source_in_flight_records") or 0.0
    yield Row(
        "in flight",
        count(in_flight),
        f"{_being(in_flight, 'request')} scored now." if in_flight else "No request is scored now.",
    )
    waiting = window.value("streamer_source_unacknowledged_records") or 0.0
    held = size(window.value("streamer_source_unacknowledged_bytes"))
    says = f"{plural(waiting, 'record')} ({held}) without an answer that the brokers have confirmed."
    yield Row("unacknowledged", count(waiting), says if waiting else "The brokers have confirmed every answer.")
    if paused := window.value("streamer_source_paused_partitions"):
        says = f"Reading of {plural(paused, 'partition')} pauses at its share of the unacknowledged records."
        yield Row("paused partitions", count(paused), says, is_bad=True)
    if backlog := window.value("streamer_source_backlog_records"):
        says = f"{plural(backlog, 'older request')} are answered beside the live ones, after an outage."
        yield Row("backlog", count(backlog), says)


def digits_per(total: float, of: float) -> Number:
    """A mean of whole things."""
    return count(round(total / of)) if of else NOTHING


def _being(n: float, what: str) -> str:
    return f"{plural(n, what)} {'is' if n == 1 else 'are'}"


def _lag(window: Window) -> Rows:
    """How old the oldest waiting request is, and each partition that lags."""
    ages = window.values("streamer_source_lag_seconds", "partition")
    waiting = window.values("streamer_source_lag_records", "partition")
    unread = [p for p, value in window.values("streamer_source_unreadable_partitions", "partition").items() if value]
    if not ages:
        yield Row("oldest waiting", NOTHING, "This worker reads no partition.")
        return
    oldest, records = max(ages.values()), sum(waiting.values())
    read = "The only partition is read" if len(ages) == 1 else f"All {len(ages)} partitions are read"
    if unread:
        read = f"{len(ages.keys() - unread)} of {len(ages.keys() | unread)} partitions are read"
    says = f"{read} to the end."
    if oldest:
        where = f" (partition {max(ages, key=lambda p: ages[p])})" if len(ages) > 1 else ""
        says = f"{read}; the oldest waiting request is {duration(oldest)} old{where}."
    yield Row("oldest waiting", duration(oldest), says, is_bad=oldest > _MAX_LAG_S)
    says = f"{plural(records, 'request')} not read or not answered yet."
    yield Row("waiting", count(records), says if records else "No request waits to be read or answered.")
    for partition in sorted(unread, key=int):
        says = f"Partition {partition} cannot be opened or read; it is tried again."
        yield Row(f"partition {partition}", NOTHING, says, is_bad=True)
    late = sorted((p for p, age in ages.items() if age > _MAX_LAG_S), key=lambda p: -ages[p])
    for partition in sorted(late[:_SHOWN_PARTITIONS], key=int):
        age, n = duration(ages[partition]), waiting.get(partition, 0.0)
        says = f"{plural(n, 'request')} wait here."
        yield Row(f"partition {partition}", age, says, is_bad=True, is_detail=True)
    if more := len(late[_SHOWN_PARTITIONS:]):
        says = f"{plural(more, 'more partition')} with requests older than 1 s."
        yield Row("other partitions", count(more), says, is_bad=True, is_detail=True)


def answers(window: Window) -> Rows:
    """Answers by status, and how they meet their deadlines."""
    found = window.increases("streamer_sink_answers_total", "status")
    total, good = sum(found.values()), found.pop("ok", 0.0)
    says = "No request was answered."
    if total:
        says = "Every answer has all scores." if good == total else f"{plural(good, 'answer')} with all scores."
    yield Row("ok", percent(good / total if total else None), says)
    for status, n in found.items():
        share = n / total if total else 0.0
        one, many, meaning = _MEANINGS.get(status, ("answer has", "answers have", f"the status {status}"))
        says = f"{plural(n, one, many)} {meaning}." if n else f"No {one} {meaning}."
        yield Row(status, percent(share if total else None), says, is_bad=share > _MAX_BAD_SHARE)
    late = window.increase("streamer_sink_late_answers_total")
    share = late / total if total else 0.0
    says = f"{plural(late, 'answer')} left after the deadline." if late else "Every answer left before its deadline."
    yield Row(
        "late", percent(share if total else None), says if total else "No answer left.", is_bad=share > _MAX_BAD_SHARE
    )
    left = window.quantile("streamer_stage_slack_seconds", 0.01, stage="total")
    if left is None:
        yield Row("budget left", NOTHING, "No answer in this time.")
    elif left < 0:
        yield Row(
            "budget left", Number("0", "ms"), "1 of 100 answers left after its deadline.", is_bad=True, is_detail=True
        )
    else:
        margin = "more than 1 s" if left == inf else f"at least {duration(left)}"
        says = f"99 of 100 answers left {margin} before their deadline."
        yield Row("budget left", duration(left), says)


def times(window: Window) -> Rows:
    """The 99th percentile of each stage, and its share of the time."""
    name = "streamer_stage_seconds"
    half, most = (window.quantile(name, q, stage="total") for q in (0.5, 0.99))
    if half is None or most is None:
        yield Row("scoring", NOTHING, "No request was scored.")
    else:
        yield Row(
            "scoring", duration(most), f"Half of the requests are scored {_within(half)}, 99 of 100 {_within(most)}."
        )
        total = window.increase(f"{name}_sum", stage="total")
        for stage in STAGES[:-1]:
            share = percent(min(1.0, window.increase(f"{name}_sum", stage=stage) / total) if total else None)
            says = f"{_WORK[stage]}: {share} of the time."
            yield Row(stage, duration(window.quantile(name, 0.99, stage=stage)), says)
    half, most = (window.quantile("streamer_predictor_seconds", q) for q in (0.5, 0.99))
    says = (
        "No call to a model server."
        if half is None
        else f"Half of the calls to the model servers return {_within(half)}."
    )
    yield Row("call", duration(most), says)
    delay = window.quantile("streamer_loop_delay_seconds", 0.99)
    slow = (delay or 0.0) > _MAX_DELAY_S
    says = "Tasks start late: the core is full, or other programs use it." if slow else "Tasks start without delay."
    yield Row("event loop", duration(delay), says if delay is not None else "Not measured yet.", is_bad=slow)


def _within(seconds: float) -> str:
    return "after more than 1 s" if seconds == inf else f"within {duration(seconds)}"


def features(window: Window) -> Rows:
    """Features without a value in any sampled request since the start, and wrong numbers."""
    sampled = window.increases("streamer_features_sampled_total", "feature")
    present = window.increases("streamer_features_present_total", "feature")
    seen = [feature for feature, n in sampled.items() if n]
    empty = [feature for feature in seen if not present.get(feature)]
    says = "No request was sampled."
    if seen:
        says = "Every feature has had values in the requests sampled since the start."
    if empty:
        more = f" and {len(empty) - _SHOWN_FEATURES} more" if len(empty) > _SHOWN_FEATURES else ""
        named = ", ".join(empty[:_SHOWN_FEATURES]) + more
        says = f"No request sampled since the start has a value of {named}: is the path right?"
    yield Row("features without values", count(len(empty)) if seen else NOTHING, says)
    numbers = {name: n for name, n in window.increases("streamer_features_out_of_range_total", "feature").items() if n}
    says = f"Counted as missing: {', '.join(numbers)}." if numbers else "Every number fits."
    yield Row("out of range", count(sum(numbers.values())), says)


def process(window: Window) -> Rows:
    """What the process uses."""
    cores = window.rate("process_cpu_seconds_total")
    says = "Not measured yet." if cores is None else "In use; one worker can use one."
    yield Row("cores", NOTHING if cores is None else count(cores), says)
    yield Row("memory", size(window.value("process_resident_memory_bytes")), "Resident; shared memory counts.")
    yield Row("descriptors", count(window.value("process_open_fds")), "Open files and connections.")
    dropped = window.increase("streamer_log_lines_dropped_total")
    says = f"{plural(dropped, 'line')} of the log were dropped: standard error accepts none."
    yield Row("log", count(dropped), says if dropped else "No line was dropped.", is_bad=dropped > 0)
