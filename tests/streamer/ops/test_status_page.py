"""The status page shows the metrics of the last minute."""

import re
import time
from collections.abc import Callable
from html.parser import HTMLParser

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.metrics_core import Metric

from streamer.metrics import Metrics
from streamer.ops.metric_history import MetricHistory
from streamer.ops.status_page import StatusPage
from streamer.types import StageTimes


class _Page(HTMLParser):
    """The cells of each row of the page; a cell with a problem ends with an exclamation mark."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: dict[str, list[str]] = {}
        self.paragraphs: list[str] = []
        self._cells: list[str] = []
        self._red = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._red = ("class", "bad") in attrs
        if tag in {"tr", "p"}:
            self._cells = []

    def handle_data(self, data: str) -> None:
        self._cells.append(f"{data}!" if self._red else data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "p":
            self.paragraphs += self._cells
        if tag == "tr" and self._cells:
            self.rows[self._cells[0]] = self._cells[1:]


def _times(total: float) -> StageTimes:
    return StageTimes(decode=0.2, encode=0.4, queue=1.0, predict=total - 1.6, total=total)


def _page_after(seconds: float, work: Callable[[Metrics], None], then: Callable[[Metrics], None]) -> _Page:
    """The second of two pages; `then` and `seconds` pass between them.

    `work` runs before the first one.
    """
    metrics, now = Metrics(), [100.0]
    page = StatusPage(lambda: now[0])
    work(metrics)
    page.render({"": "RUNNING"}, metrics.registry.collect())
    then(metrics)
    now[0] += seconds
    return _Page(page.render({"": "RUNNING"}, metrics.registry.collect()))


def test_rates_and_times_are_those_between_two_requests() -> None:
    def before(metrics: Metrics) -> None:
        metrics.records.inc(1_000_000)
        for _ in range(1000):
            metrics.answered("expired", _times(200.0), -1.0)

    def between(metrics: Metrics) -> None:
        metrics.records.inc(40)
        for _ in range(100):
            metrics.answered("ok", _times(4.5), 0.0206)
        metrics.cache_hits.inc(30)
        metrics.cache_misses.inc(50)
        metrics.cache_single_flight.inc(20)
        metrics.lag.labels(3).set(12)
        metrics.lag_seconds.labels(3).set(1.5)

    rows = _page_after(10.0, before, between).rows
    assert rows["records received per second"] == ["4"]
    assert rows["answers: ok"] == ["100 (100.0%)"]
    assert rows["answers: expired"] == ["0"]
    assert rows["answers after their deadline"] == ["0"]
    assert rows["total: median, 99th percentile"] == ["5 / 5 ms"]
    assert rows["decode: median, 99th percentile"] == ["0.25 / 0.25 ms"]
    # 25.1 ms were left at receipt, 24.9 after decoding, 20.6 at the answer: lower bounds of their buckets.
    assert rows["budget left after decode: 1st percentile"] == ["20 ms"]
    assert rows["budget left after total: 1st percentile"] == ["20 ms"]
    assert rows["cache hit ratio"] == ["30.0%"]
    assert rows["partition 3: lag"] == ["12 records, 1.5 s!"]


def test_problems_are_marked() -> None:
    def trouble(metrics: Metrics) -> None:
        metrics.answered("fallback", _times(31.0), -0.001)
        metrics.set_circuit("10.0.0.7:8500", "ctr", is_open=True)
        metrics.predict_failed("ctr", "UNAVAILABLE")
        metrics.dead_lettered("decode")
        metrics.commit_failures.inc()

    rows = _page_after(1.0, lambda _: None, trouble).rows
    assert rows["answers: fallback"] == ["1 (100.0%)!"]
    assert rows["answers after their deadline"] == ["1 (100.0%)!"]
    assert rows["budget left after total: 1st percentile"] == ["none!"]
    assert rows["circuit of ctr on 10.0.0.7:8500"] == ["open!"]
    assert rows["failed calls of ctr: UNAVAILABLE"] == ["1!"]
    assert rows["dead letters: decode"] == ["1!"]
    assert rows["failed commits"] == ["1!"]
    assert rows["state"] == ["RUNNING"]


def test_the_first_line_names_all_problems() -> None:
    def trouble(metrics: Metrics) -> None:
        metrics.answered("fallback", _times(31.0), 0.01)
        metrics.transactions.labels("committed").inc()
        metrics.transactions.labels("failed").inc()
        metrics.isolated_partitions.set(2)

    page = _page_after(1.0, lambda _: None, trouble)
    assert page.paragraphs == ["Problems: answers: fallback; transactions: failed; isolated partitions!"]
    assert _page_after(1.0, lambda _: None, lambda _: None).paragraphs == ["No problems."]


def test_uptime_and_resources() -> None:
    metrics, now = Metrics(), time.time()
    page = _Page(StatusPage(lambda: 1.0, lambda: now).render({"": "RUNNING"}, metrics.registry.collect()))
    assert re.fullmatch(r"(\d+ days?, )?\d+:\d\d:\d\d", page.rows["uptime"][0])
    assert float(page.rows["memory"][0].removesuffix(" MiB").replace(",", "")) > 1
    assert int(page.rows["open descriptors"][0].replace(",", "")) > 1


def test_the_first_page_has_counts_but_no_rates() -> None:
    metrics = Metrics()
    metrics.records.inc(5)
    metrics.answered("ok", _times(4.5), 0.02)
    rows = _Page(
        StatusPage(lambda: 1.0).render({"": "STARTING: waiting <for> the brokers"}, metrics.registry.collect())
    ).rows
    assert rows["records received per second"] == ["–"]
    assert rows["answers: ok"] == ["1 (100.0%)"]
    assert rows["state"] == ["STARTING: waiting <for> the brokers!"]


def test_several_workers_have_a_column_each() -> None:
    in_flight = Metric("streamer_source_in_flight_records", "", "gauge")
    in_flight.add_sample(in_flight.name, {"worker": "1"}, 7.0)
    unacknowledged = Metric("streamer_source_unacknowledged_records", "", "gauge")
    unacknowledged.add_sample(unacknowledged.name, {"worker": "1"}, 9.0)
    page = _Page(StatusPage(lambda: 1.0).render({"0": "does not run", "1": "RUNNING"}, [in_flight, unacknowledged]))
    assert page.rows["worker 0"] == ["worker 1"]
    assert page.rows["state"] == ["does not run!", "RUNNING"]
    assert page.rows["records in flight"] == ["–", "7"]
    assert page.rows["unacknowledged records"] == ["–", "9"]


def test_a_small_share_of_bad_answers_is_no_problem() -> None:
    def between(metrics: Metrics) -> None:
        for _ in range(999):
            metrics.answered("ok", _times(4.5), 0.02)
        metrics.answered("expired", _times(4.5), -0.001)

    page = _page_after(1.0, lambda _: None, between)
    assert page.rows["answers: expired"] == ["1 (0.1%)"]
    assert page.rows["answers after their deadline"] == ["1 (0.1%)"]


def test_partitions_of_all_workers_are_sorted_by_number() -> None:
    family = Metric("streamer_source_lag_records", "", "gauge")
    for partition, worker in ((10, "0"), (0, "0"), (9, "1")):
        family.add_sample(family.name, {"worker": worker, "partition": str(partition)}, 1.0)
    page = _Page(StatusPage(lambda: 1.0).render({"0": "RUNNING", "1": "RUNNING"}, [family]))
    assert [row.partition(":")[0] for row in page.rows if row.startswith("partition ")] == [
        "partition 0",
        "partition 9",
        "partition 10",
    ]


def _counted(value: int) -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("done", "", registry=registry).inc(value)
    return registry


def test_the_increase_of_a_reset_counter_is_its_value() -> None:
    history = MetricHistory()
    history.add(0.0, _counted(500).collect())
    window = history.add(10.0, _counted(20).collect())[""]
    assert window.increase("done_total") == 20
    assert window.rate("done_total") == 2


def test_the_window_is_a_minute_at_any_request_rate() -> None:
    history = MetricHistory()
    window = None
    for tenths in range(1801):
        window = history.add(tenths / 10, _counted(tenths).collect())[""]
    assert window is not None
    assert 59 <= window.seconds <= 60
    assert len(history) <= 121
