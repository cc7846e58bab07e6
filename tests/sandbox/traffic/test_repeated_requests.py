"""Requests that repeat."""

import itertools
from collections import Counter

import orjson
import pytest

from sandbox.traffic.repeated_requests import Exchanges, Repeats
from sandbox.world.bid_requests import BidRecord, RequestFactory
from tests.sandbox.world.small import small_world


def factory(*, headers: bool = False) -> RequestFactory:
    return RequestFactory(small_world(), candidates=5, deadline_ms=30.0, headers=headers)


def rest_of(record: BidRecord) -> dict[str, object]:
    return {key: value for key, value in orjson.loads(record.value).items() if key != "request_id"}


@pytest.mark.parametrize("headers", [False, True])
def test_a_repeated_request_differs_from_its_original_only_in_its_id(headers: bool) -> None:
    made = factory(headers=headers)
    pool = [made.next() for _ in range(4)]
    repeats = Repeats(factory(headers=headers), 4, prefix="again")
    for number in range(20):
        record = repeats.next()
        assert record.request_id == f"again-{number}"
        assert orjson.loads(record.value)["request_id"] == record.request_id
        (one,) = [r for r in pool if rest_of(r) == rest_of(record)]
        assert (record.key, record.user, record.ads.tolist()) == (one.key, one.user, one.ads.tolist())
        expected = [("request_id", record.request_id.encode()), ("deadline_ms", b"30.0")] if headers else []
        assert record.headers == expected


@pytest.mark.parametrize(("exponent", "ratio"), [(0.0, 1.0), (1.0, 2.0)])
def test_the_exponent_sets_the_skew(exponent: float, ratio: float) -> None:
    made = factory()
    first, second = (made.next().ads.tolist() for _ in range(2))
    repeats = Repeats(factory(), 8, exponent=exponent)
    seen = Counter(tuple(repeats.next().ads.tolist()) for _ in range(6000))
    assert seen[tuple(first)] / seen[tuple(second)] == pytest.approx(ratio, rel=0.15)


def test_the_seed_sets_the_order() -> None:
    def order(seed: int) -> list[int]:
        repeats = Repeats(factory(), 8, seed=seed)
        return [repeats.next().user for _ in range(50)]

    assert order(1) == order(1)
    assert order(1) != order(2)


def parts_of(record: BidRecord) -> tuple[object, object, set[str]]:
    """User, context and ads."""
    rest = rest_of(record)
    candidates = rest["candidates"]
    assert isinstance(candidates, list)
    return rest["user"], rest["context"], {candidate["ad_id"] for candidate in candidates}


def offers_of(again: float, count: int, *, within: int = 10, kept: float = 0.8) -> list[BidRecord]:
    made = RequestFactory(small_world(), candidates=20)
    exchanges = Exchanges(made, again=again, kept=kept, within=within)
    return [exchanges.next() for _ in range(count)]


def test_a_second_offer_has_the_same_slot_and_most_of_the_candidates() -> None:
    records = offers_of(1.0, 30, within=1)
    assert len({record.request_id for record in records}) == 30
    for before, record in itertools.pairwise(records):
        assert (record.key, record.user, record.row) == (before.key, before.user, before.row)
        assert parts_of(record)[:2] == parts_of(before)[:2]
        ads = set(record.ads.tolist())
        assert len(ads) == 20
        assert parts_of(record)[2] == {small_world().ads.ids[ad] for ad in ads}
        assert 16 <= len(ads & set(before.ads.tolist())) < 20, "an ad that was left out may be drawn again"


def test_the_share_sets_how_many_recent_slots_are_offered_again() -> None:
    records = offers_of(0.3, 2000, within=10)
    seen: dict[int, int] = {}
    again = []
    for number, record in enumerate(records):
        slot = id(record.contexts) * 1000 + record.row
        if slot in seen:
            again.append(number - seen[slot])
        seen[slot] = number
    assert len(again) / len(records) == pytest.approx(0.3, abs=0.04)
    assert max(again) <= 10


def test_without_a_share_no_slot_is_offered_again() -> None:
    made = RequestFactory(small_world(), candidates=20)
    assert [r.value for r in offers_of(0.0, 20)] == [made.next().value for _ in range(20)]
