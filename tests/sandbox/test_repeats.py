"""Traffic that repeats itself."""

from collections import Counter

import orjson
import pytest

from sandbox.repeats import Repeats
from sandbox.requests import BidRecord, RequestFactory
from tests.sandbox.worlds import small_world


def factory(*, headers: bool = False) -> RequestFactory:
    return RequestFactory(small_world(), candidates=5, deadline_ms=30.0, headers=headers)


def rest_of(record: BidRecord) -> dict[str, object]:
    return {key: value for key, value in orjson.loads(record.value).items() if key != "request_id"}


@pytest.mark.parametrize("headers", [False, True])
def test_everything_but_the_id_is_that_of_a_request_of_the_pool(headers: bool) -> None:
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
def test_the_exponent_says_how_unequal_they_are(exponent: float, ratio: float) -> None:
    made = factory()
    first, second = (made.next().ads.tolist() for _ in range(2))
    repeats = Repeats(factory(), 8, exponent=exponent)
    seen = Counter(tuple(repeats.next().ads.tolist()) for _ in range(6000))
    assert seen[tuple(first)] / seen[tuple(second)] == pytest.approx(ratio, rel=0.15)


def test_the_seed_decides_the_order() -> None:
    def order(seed: int) -> list[int]:
        repeats = Repeats(factory(), 8, seed=seed)
        return [repeats.next().user for _ in range(50)]

    assert order(1) == order(1)
    assert order(1) != order(2)
