"""The status page: sentences and numbers of the last minute, problems first, plots of ten minutes, nothing loaded."""

import asyncio
import re
import time
from base64 import b64encode
from collections import Counter as CountedFeatures
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from html.parser import HTMLParser

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.metrics_core import Metric

from streamer.metrics import Metrics
from streamer.ops import status_numbers as numbers
from streamer.ops.metric_history import MetricHistory, Window, merged
from streamer.ops.status_page import StatusPage
from streamer.testing.virtual_loop import run_virtual
from streamer.types import StageTimes


@dataclass(slots=True)
class Line:
    """A row of a table: its sentence, its numbers, and which of them are problems."""

    says: str = ""
    numbers: list[str] = field(default_factory=list)
    bad: list[bool] = field(default_factory=list)


class _Page(HTMLParser):
    """The rows, problems and attributes of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: dict[str, Line] = {}
        self.problems: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text = text
        self._open: list[str] = []
        self._line = Line()
        self._name = self._said = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self._open.append(tag)
        if tag == "tr":
            self._line, self._name = Line(), ""
        if tag == "td":
            self._line.numbers.append("")
            self._line.bad.append(("class", "bad") in attrs)
        if tag == "li":
            self._said = ""

    def handle_data(self, data: str) -> None:
        if "small" in self._open:
            self._line.says += data
        elif "td" in self._open:
            self._line.numbers[-1] += f" {data}" if self._line.numbers[-1] else data
        elif "tbody" in self._open:
            self._name += data
        elif "ul" in self._open:
            self._said += data

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass
        if tag == "tr" and self._line.says:
            self.rows[self._name] = self._line
        if tag == "li" and "figure" not in self._open:
            self.problems.append(self._said)


def _times(total: float) -> StageTimes:
    return StageTimes(decode=0.2, encode=0.4, queue=1.0, predict=total - 1.6, total=total)


def _nothing(_: Metrics) -> None:
    pass


def _page_after(seconds: float, work: Callable[[Metrics], None], then: Callable[[Metrics], None]) -> _Page:
    """The page `seconds` after a sample; `then` happens between them, `work` before the sample."""
    metrics, now = Metrics(), [100.0]
    page = StatusPage(lambda: now[0])
    work(metrics)
    page.sample(metrics.registry.collect())
    then(metrics)
    now[0] += seconds
    return _Page(page.render({"": "RUNNING"}, metrics.registry.collect()))


def test_numbers_are_those_since_the_sample() -> None:
    def before(metrics: Metrics) -> None:
        metrics.records.inc(1_000_000)
        for _ in range(1000):
            metrics.answered("expired", _times(200.0), -1.0)

    def between(metrics: Metrics) -> None:
        metrics.records.inc(40)
        metrics.candidates.inc(12_000)
        for _ in range(100):
            metrics.answered("ok", _times(4.5), 0.0206)
        metrics.cache_hits.inc(30)
        metrics.cache_misses.inc(50)
        metrics.cache_single_flight.inc(20)
        for partition, age in enumerate((0.0, 0.003, 0.001, 0.0)):
            metrics.lag.labels(partition).set(3)
            metrics.lag_seconds.labels(partition).set(age)
        metrics.in_flight.set(1)

    page = _page_after(10.0, before, between)
    rows = page.rows
    assert page.problems == []
    assert "No problems." in page.text
    assert rows["received"] == Line("40 requests arrived, with 300 ads on average.", ["4 /s"], [False])
    oldest = "All 4 partitions are read; the oldest waiting request is 3 ms old (partition 1)."
    assert rows["oldest waiting"] == Line(oldest, ["3 ms"], [False])
    assert rows["in flight"].says == "1 request is scored now."
    assert rows["ok"] == Line("Every answer has all scores.", ["100 %"], [False])
    assert rows["expired"] == Line("No request was too old to score.", ["0 %"], [False])
    assert rows["late"].says == "Every answer left before its deadline."
    # The quantile is linear within the bucket from 3 to 5 ms.
    assert rows["scoring"].says == "Half of the requests are scored within 4 ms, 99 of 100 within 4.98 ms."
    assert rows["queue"].says == "Waits for a batch and a free call: 22.2 % of the time."
    assert rows["budget left"].says == "99 of 100 answers left at least 20.1 ms before their deadline."
    assert rows["cache hits"] == Line("Of 100 ads that were looked up.", ["30 %"], [False])


def test_a_problem_has_a_sentence_at_the_top() -> None:
    def trouble(metrics: Metrics) -> None:
        for _ in range(3):
            metrics.answered("fallback", _times(31.0), -0.001)
        metrics.answered("expired", _times(31.0), 0.01)
        metrics.set_circuit("10.0.0.7:8500", "ctr", is_open=True)
        metrics.set_circuit("10.0.0.8:8500", "ctr", is_open=False)
        metrics.predict_failed("ctr", "UNAVAILABLE")
        metrics.dead_lettered("decode")
        metrics.commit_failures.inc()
        metrics.shed_rows.inc(12_345)
        metrics.transactions.labels("failed").inc()
        metrics.isolated_partitions.set(2)
        metrics.bad_version.labels("ctr", "4").set(1)
        metrics.rollbacks.labels("ctr").inc()
        metrics.paused.set(1)
        for partition, age in enumerate((20.0, 0.0)):
            metrics.lag.labels(partition).set(1_000)
            metrics.lag_seconds.labels(partition).set(age)
        metrics.unreadable.labels(1).set(1)

    page = _page_after(5.0, _nothing, trouble)
    assert page.problems == [
        "oldest waiting: 1 of 2 partitions are read; the oldest waiting request is 20 s old (partition 0).",
        "partition 1: Partition 1 cannot be opened or read; it is tried again.",
        "paused partitions: Reading of 1 partition pauses at its share of the unacknowledged records.",
        "expired: 1 request was too old to score.",
        "fallback: 3 answers have priors in place of the model's scores.",
        "late: 3 answers left after the deadline.",
        "bad version of ctr: Version 4 cannot be prepared: streamer model list has the reason.",
        "circuits closed: Open, because calls fail: 10.0.0.7:8500 (ctr).",
        "failed calls: Calls failed: 1 with UNAVAILABLE.",
        "rollbacks: A version was rolled back: see the log for the reason.",
        "shed rows: 12.3 k rows shed, because no call could score them in time.",
        "commits: 1 commit failed.",
        "transactions: 1 transaction failed; the next one has their answers.",
        "dead letters: By decode (1): streamer dlq list has the reasons.",
        "isolated: 2 partitions handled one record at a time after repeated deaths of workers.",
    ]
    assert page.rows["circuits closed"].numbers == ["1/2"]
    assert page.rows["partition 0"] == Line("1,000 requests wait here.", ["20 s"], [True])
    assert "15 problems" in page.text


def test_a_state_that_scores_nothing_is_a_problem() -> None:
    text = StatusPage(lambda: 1.0).render({"": "STARTING: waiting <for> the brokers"}, Metrics().registry.collect())
    assert _Page(text).problems == ["state: STARTING: waiting <for> the brokers"]
    assert '<span class="state bad">STARTING: waiting &lt;for&gt; the brokers</span>' in text


def test_an_idle_worker_says_so() -> None:
    page = _page_after(10.0, _nothing, _nothing)
    assert page.problems == []
    assert page.rows["received"].says == "No request arrived."
    assert page.rows["oldest waiting"] == Line("This worker reads no partition.", ["–"], [False])
    assert page.rows["scoring"].says == "No request was scored."
    assert not {"standby", "requests", "changed ads"} & page.rows.keys(), "no supervisor, no HTTP, no tables"


def test_uptime_and_resources() -> None:
    metrics, now = Metrics(), time.time()
    page = _Page(StatusPage(lambda: 1.0, lambda: now).render({"": "RUNNING"}, metrics.registry.collect()))
    assert re.search(r"Up [\d.,]+ (ms|s|min|h|d)\. It is", page.text)
    assert re.fullmatch(r"[\d.]+ [MG]B", page.rows["memory"].numbers[0])
    assert int(page.rows["descriptors"].numbers[0].replace(",", "")) > 1


def test_the_first_page_has_counts_but_no_rates() -> None:
    metrics = Metrics()
    metrics.records.inc(5)
    metrics.answered("ok", _times(4.5), 0.02)
    page = _Page(StatusPage(lambda: 1.0).render({"": "RUNNING"}, metrics.registry.collect()))
    assert page.rows["received"].numbers == ["–"]
    assert page.rows["ok"].numbers == ["100 %"]
    assert "Numbers are of the time since the start" in page.text
    assert "Requests in the last ten minutes" not in page.text
    assert 'aria-label="Requests: no data yet."' in page.text


def _of_workers(name: str, values: dict[str, float], kind: str = "gauge", **labels: str) -> Metric:
    family = Metric(name, "", kind)
    for worker, value in values.items():
        family.add_sample(name, {**labels, **({"worker": worker} if worker else {})}, value)
    return family


def test_several_workers_have_a_column_each_beside_their_sum() -> None:
    families = [
        _of_workers("streamer_source_in_flight_records", {"1": 7.0, "2": 5.0}),
        _of_workers("streamer_source_lag_seconds", {"1": 2.0}, partition="3"),
        _of_workers("streamer_source_lag_seconds", {"2": 0.5}, partition="4"),
        _of_workers("streamer_supervisor_missing_workers", {"": 1.0}),
        _of_workers("streamer_supervisor_standby_workers", {"": 0.0}),
    ]
    states = {"0": "does not run", "1": "RUNNING", "2": "STANDBY"}
    page = _Page(StatusPage(lambda: 1.0).render(states, families))
    assert page.text.count('<th scope="col">all</th>') == page.text.count("<thead>") > 5
    assert page.rows["in flight"].numbers == ["12", "–", "7", "5"]
    assert page.rows["oldest waiting"].numbers == ["2 s", "–", "2 s", "500 ms"]
    assert page.rows["oldest waiting"].bad == [True, False, True, False]
    assert page.rows["missing"].says == "1 process is not ready."
    assert page.problems[0] == "worker 0: does not run"
    assert len(page.problems) == 3


def test_a_small_share_of_bad_answers_is_no_problem() -> None:
    def between(metrics: Metrics) -> None:
        for _ in range(999):
            metrics.answered("ok", _times(4.5), 0.02)
        metrics.answered("expired", _times(4.5), -0.001)

    page = _page_after(1.0, _nothing, between)
    assert page.problems == []
    assert page.rows["expired"] == Line("1 request was too old to score.", ["0.1 %"], [False])
    assert page.rows["ok"].numbers == ["99.9 %"]


def test_features_without_values_are_named() -> None:
    def sampled(metrics: Metrics) -> None:
        for number in range(9):
            counts = metrics.feature_values.of("ctr", f"f{number}")
            counts[0] += 100
            counts[1] += 100 if number == 3 else 0
        metrics.count_out_of_range(CountedFeatures({"bid": 2}))

    page = _page_after(1.0, _nothing, sampled)
    says = "No request sampled since the start has a value of f0, f1, f2, f4, f5 and 3 more: is the path right?"
    assert page.rows["features without values"] == Line(says, ["8"], [False])
    assert page.rows["out of range"] == Line("Counted as missing: bid.", ["2"], [False])


def test_the_history_reads_no_counts_of_features() -> None:
    metrics, history = Metrics(), MetricHistory()
    counts = metrics.feature_values.of("ctr", "age")
    counts[:] = [100, 40]
    families = list(metrics.registry.collect())
    (window,) = history.add(0.0, iter(families)).values()
    assert not [name for name in window.now.values if "features_sampled" in name or "features_present" in name]
    (window,) = history.window(30.0, families).values()
    assert window.seconds == 30.0
    assert window.increases("streamer_features_present_total", "feature") == {"age": 40.0}


def test_many_partitions_with_a_lag_are_a_few_rows() -> None:
    def lag(metrics: Metrics) -> None:
        for partition in range(200):
            metrics.lag.labels(partition).set(10)
            metrics.lag_seconds.labels(partition).set(2.0 + partition)

    page = _page_after(1.0, _nothing, lag)
    assert [name for name in page.rows if name.startswith("partition ")] == [f"partition {n}" for n in range(192, 200)]
    assert page.rows["other partitions"].says == "192 more partitions with requests older than 1 s."
    assert len(page.problems) == 1


def test_plots_have_the_last_ten_minutes() -> None:
    metrics, now = Metrics(), [0.0]
    page = StatusPage(lambda: now[0])
    for sample in range(100):
        now[0] = sample * 10.0
        metrics.records.inc(1500)
        if sample not in {80, 81, 82}:  # no sample: a gap
            page.sample(metrics.registry.collect())
    text = page.render({"": "RUNNING"}, metrics.registry.collect())
    plot = next(each for each in re.findall("<figure>.*?</figure>", text) if "Requests in the last" in each)
    assert "Now: received 150 /s; answered ok 0 /s." in plot
    assert '<span class="top">200 /s</span>' in plot, "the next round number above 150"
    path = re.findall(r'<path class="s0" d="([^"]+)"', plot)[0]
    points = [float(x) for x in re.findall(r"[LH]([\d.]+)", path)]
    assert path.count("M") == 2, "one gap"
    assert points == sorted(points)
    assert 0 <= points[0] < points[-1] == 600
    assert len(page._history) == 7  # noqa: SLF001
    assert len(page._history.points) == 61  # noqa: SLF001


def test_a_plot_never_divides_by_zero_or_leaves_its_box() -> None:
    metrics, now = Metrics(), [0.0]
    page = StatusPage(lambda: now[0])
    for seconds in (0.0, 10.0, 20.0):
        now[0] = seconds
        metrics.answered("ok", _times(9_000.0), -1.0)  # beyond the last bucket
        metrics.lag_seconds.labels(1).set(1e6)
        page.sample(metrics.registry.collect())
    text = page.render({"": "RUNNING"}, metrics.registry.collect())
    assert "nan" not in text
    assert "inf" not in text.replace("info", "")
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ (-?[\d.]+)", text)]
    assert all(0 <= y <= 120 for y in heights)


def test_the_page_loads_nothing_and_runs_no_script() -> None:
    page = StatusPage(lambda: 1.0)
    response = page.response({"": "RUNNING"}, Metrics().registry.collect(), reloads=True)
    found = _Page(str(response.text))
    assert not found.tags & {"script", "link", "img", "iframe", "object", "form", "base"}
    assert not [name for name, _ in found.attributes if name in {"style", "src", "srcset"} or name.startswith("on")]
    (style,) = re.findall("<style>(.*?)</style>", found.text, re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style
    policy = response.headers["Content-Security-Policy"]
    assert f"style-src 'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'" in policy
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert 'http-equiv="refresh"' in found.text
    paused = page.response({"": "RUNNING"}, Metrics().registry.collect(), reloads=False)
    assert 'http-equiv="refresh"' not in str(paused.text)


def _luminance(colour: str) -> float:
    whole = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    channels = (int(whole[i : i + 2], 16) / 255 for i in (0, 2, 4))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(scheme: str) -> None:
    style = StatusPage(lambda: 1.0).render({"": "RUNNING"}, [])
    light, dark = (dict(re.findall(r"--([\w-]+):(#\w+)", part)) for part in re.findall(r":root{([^}]*)}", style))
    colours = light if scheme == "light" else {**light, **dark}
    pairs = [("bad", "bad-back"), ("text", "bad-back")]
    pairs += [(text, back) for text in ("text", "soft", "good", "bad", "link") for back in ("back", "card")]
    for text, back in pairs:
        dim, bright = sorted(_luminance(colours[name]) for name in (text, back))
        assert (bright + 0.05) / (dim + 0.05) >= 4.5, f"{text} on {back}"
    for line in ("s0", "s1", "s2"):
        dim, bright = sorted(_luminance(colours[name]) for name in (line, "card"))
        assert (bright + 0.05) / (dim + 0.05) >= 3, line


def _counted(value: int) -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("done", "", registry=registry).inc(value)
    return registry


def test_the_increase_of_a_reset_counter_is_its_value() -> None:
    history = MetricHistory()
    history.add(0.0, _counted(500).collect())
    window = history.window(10.0, _counted(20).collect())[""]
    assert window.increase("done_total") == 20
    assert window.rate("done_total") == 2


def test_the_window_is_a_minute_and_the_history_has_a_bound() -> None:
    history = MetricHistory()
    for tens in range(200):
        history.add(tens * 10.0, _counted(tens).collect())
        window = history.window(tens * 10.0 + 9.0, _counted(tens).collect())[""]
        assert window.seconds == min(tens * 10, 60) + 9
    assert len(history) == 7


def test_a_restarted_worker_does_not_reduce_the_sum() -> None:
    def windows(before: dict[str, float], now: dict[str, float]) -> Iterable[Window]:
        history = MetricHistory()
        history.add(0.0, [_of_workers("done_total", before, "counter")])
        return history.window(10.0, [_of_workers("done_total", now, "counter")]).values()

    whole = merged(windows({"0": 500.0, "1": 300.0}, {"0": 20.0, "1": 310.0}))
    assert whole is not None
    assert whole.increase("done_total") == 30
    assert whole.seconds == 10
    assert merged([]) is None


def test_a_worker_that_answers_again_is_no_peak() -> None:
    page, now = StatusPage(lambda: now[0]), [0.0]
    for sample, workers in enumerate((["0", "1"], ["0", "1"], ["0"], ["0", "1"], ["0", "1"])):
        now[0] = sample * 10.0
        values = dict.fromkeys(workers, 10000.0 + 10 * sample)
        page.sample([_of_workers("streamer_source_records_total", values, "counter")])
    received = [values[0] for _, values in page._history.points]  # noqa: SLF001
    assert received == [None, 2, 1, 1, 2]


def test_an_answer_of_a_later_release_is_shown() -> None:
    families = [_of_workers("streamer_sink_answers_total", {"": 3.0}, "counter", status="odd")]
    page = _Page(StatusPage(lambda: 1.0).render({"": "RUNNING"}, families))
    assert page.rows["odd"].says == "3 answers have the status odd."


def test_an_error_of_a_sample_ends_no_task() -> None:
    page, calls = StatusPage(lambda: float(len(calls))), list[int]()

    async def collect() -> Iterable[Metric]:
        calls.append(1)
        if len(calls) == 2:
            raise ValueError("not the text of metrics")
        return Metrics().registry.collect()

    async def watch() -> None:
        task = asyncio.create_task(page.watch(collect))
        await asyncio.sleep(35.0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_virtual(watch)
    assert len(calls) == 4
    assert len(page._history.points) == 3  # noqa: SLF001


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (numbers.count(0), "0"),
        (numbers.count(7340), "7,340"),
        (numbers.count(12_345), "12.3 k"),
        (numbers.count(1_234_567, "/s"), "1.23 M/s"),
        (numbers.count(0.25, "/s"), "0.25 /s"),
        (numbers.duration(0.0002), "0.2 ms"),
        (numbers.duration(0.012), "12 ms"),
        (numbers.duration(90), "90 s"),
        (numbers.duration(150), "2.5 min"),
        (numbers.duration(86_400), "24 h"),
        (numbers.duration(float("inf")), "> 1 s"),
        (numbers.size(88_000_000), "88 MB"),
        (numbers.percent(0.9999), "99.9 %"),
        (numbers.percent(0.00001), "0.01 %"),
        (numbers.percent(0.0321), "3.2 %"),
        (numbers.percent(None), "–"),
    ],
)
def test_numbers_are_narrow(number: numbers.Number, text: str) -> None:
    assert str(number) == text
