"""Bidders: the requests they make and the schedule they keep."""

from itertools import islice

import numpy as np
import orjson
import pytest

from sandbox.ledger import Ledger, Repeated, Sent
from sandbox.requests import CandidateLayout, RequestFactory
from sandbox.traffic import Arrival, arrival_times, run_schedule
from tests.sandbox.worlds import small_world

_ARRIVALS: tuple[Arrival, ...] = ("poisson", "bursts", "uniform")


def _times(
    rate: float, seconds: float, arrival: Arrival, seed: int = 0
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array(list(arrival_times(rate, seconds, arrival, np.random.default_rng(seed))))


class _Clock:
    """Time that passes only when somebody waits or works."""

    def __init__(self, stop_at: float = float("inf")) -> None:
        self.now = 100.0
        self._stop_at = 100.0 + stop_at

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return self.now >= self._stop_at


@pytest.mark.parametrize("arrival", _ARRIVALS)
def test_arrivals_keep_the_rate_and_the_order(arrival: Arrival) -> None:
    times = _times(200.0, 100.0, arrival)
    assert np.all(np.diff(times) >= 0)
    assert times[0] >= 0
    assert times[-1] < 100.0
    assert len(times) == pytest.approx(20_000, rel=0.08)


def test_arrivals_have_the_variation_of_their_process() -> None:
    """Requests in a tenth of a second: constant if uniform, Poisson's variance, or that of bursts of 8 on average."""
    ratios = {}
    for arrival in _ARRIVALS:
        counts = np.histogram(_times(200.0, 200.0, arrival), bins=2_000, range=(0.0, 200.0))[0]
        ratios[arrival] = counts.var() / counts.mean()
    assert ratios["uniform"] < 0.1
    assert 0.85 < ratios["poisson"] < 1.15
    assert 10 < ratios["bursts"] < 20  # 2 x 8 - 1 = 15 for geometric bursts


def test_arrivals_repeat_by_seed_and_need_no_end() -> None:
    assert np.array_equal(_times(50.0, 10.0, "poisson"), _times(50.0, 10.0, "poisson"))
    assert not np.array_equal(_times(50.0, 10.0, "poisson"), _times(50.0, 10.0, "poisson", seed=1))
    endless = arrival_times(1000.0, 0, "poisson", np.random.default_rng(0))
    assert len(list(islice(endless, 5_000))) == 5_000


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate above 0"):
        arrival_times(rate, 1.0, "poisson", np.random.default_rng(0))


def test_requests_leave_when_due() -> None:
    clock = _Clock()
    sent: list[tuple[float, float]] = []
    run_schedule(iter([0.5, 0.5, 2.0]), lambda due: sent.append((due, clock.now)), clock=clock, wait=clock.wait)
    assert sent == [(100.5, 100.5), (100.5, 100.5), (102.0, 102.0)]


def test_a_stall_neither_skips_nor_shifts_the_schedule() -> None:
    """What became due during a stall leaves at once afterwards; then the schedule holds again."""
    clock = _Clock()
    sent: list[float] = []

    def send(_: float) -> None:
        sent.append(clock.now)
        if len(sent) == 2:
            clock.now += 3.5

    run_schedule(iter([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), send, clock=clock, wait=clock.wait)
    assert sent == [101.0, 102.0, 105.5, 105.5, 105.5, 106.0]


def test_traffic_ends_when_told_to() -> None:
    clock = _Clock(stop_at=10.5)
    sent: list[float] = []
    endless = arrival_times(1.0, 0, "uniform", np.random.default_rng(0))
    run_schedule(endless, sent.append, clock=clock, wait=clock.wait)
    assert len(sent) == 11


@pytest.mark.parametrize("layout", ["rows", "columns"])
def test_a_request_is_what_a_bidder_sends(layout: CandidateLayout) -> None:
    world = small_world()
    factory = RequestFactory(
        world, candidates=50, layout=layout, deadline_ms=25.5, model="wdl", headers=True, prefix='run "1"'
    )
    factory.next()
    record = factory.next()
    document = orjson.loads(record.value)
    assert document["request_id"] == record.request_id == 'run "1"-1'
    assert document["deadline_ms"] == 25.5
    assert document["model"] == "wdl"
    assert document["user"]["id"].encode() == record.key
    assert document["context"] == world.document(record.user, record.contexts.one(record.row))["context"]
    ads = [dict(world.ad(i)) for i in record.ads.tolist()]
    if layout == "rows":
        assert document["candidates"] == ads
    else:
        assert document["candidates"] == {key: [ad[key] for ad in ads] for key in ads[0]}
    assert record.headers == [("request_id", record.request_id.encode()), ("deadline_ms", b"25.5")]


def test_options_that_are_not_set_are_not_sent() -> None:
    record = RequestFactory(small_world(), candidates=1).next()
    assert set(orjson.loads(record.value)) == {"request_id", "user", "context", "candidates"}
    assert record.headers == []


def test_factories_repeat_by_seed() -> None:
    def first(seed: int) -> list[bytes]:
        factory = RequestFactory(small_world(), candidates=5, seed=seed)
        return [factory.next().value for _ in range(300)]

    assert first(1) == first(1)
    assert first(1) != first(2)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(capacity=3)


def test_the_ledger_settles_each_request_once(ledger: Ledger) -> None:
    record = RequestFactory(small_world(), candidates=2).next()
    ledger.record(record, 1.5)
    assert ledger.unanswered == 1
    sent = ledger.settle(record.request_id)
    assert isinstance(sent, Sent)
    assert sent.sent_at == 1.5
    assert isinstance(ledger.settle(record.request_id), Repeated)
    assert ledger.settle("somebody else's") is None
    assert (ledger.sent, ledger.unanswered) == (1, 0)


def test_a_dead_letter_takes_the_place_of_an_answer(ledger: Ledger) -> None:
    factory = RequestFactory(small_world(), candidates=2)
    buried, answered = factory.next(), factory.next()
    for record in (buried, answered):
        ledger.record(record, 1.0)
    ledger.bury(buried.request_id)
    ledger.bury(buried.request_id)
    ledger.bury("of somebody else")
    assert (ledger.buried, ledger.unanswered) == (1, 1)
    assert isinstance(ledger.settle(buried.request_id), Repeated)
    ledger.settle(answered.request_id)
    ledger.bury(answered.request_id)
    assert (ledger.buried, ledger.unanswered) == (1, 0)


def test_a_refused_request_is_owed_no_answer(ledger: Ledger) -> None:
    record = RequestFactory(small_world(), candidates=2).next()
    ledger.record(record, 0.0)
    ledger.refuse(record.request_id)
    ledger.refuse(record.request_id)
    assert (ledger.sent, ledger.refused, ledger.unanswered) == (1, 1, 0)


def test_the_ledger_forgets_the_oldest_request_and_still_counts_it(ledger: Ledger) -> None:
    factory = RequestFactory(small_world(), candidates=2)
    records = [factory.next() for _ in range(5)]
    for record in records:
        ledger.record(record, 0.0)
    assert ledger.settle(records[0].request_id) is None
    assert isinstance(ledger.settle(records[4].request_id), Sent)
    assert (ledger.sent, ledger.unanswered) == (5, 4)
