"""Bid requests of a world."""

from typing import get_args

import orjson
import pytest

from sandbox.world.bid_requests import CandidatesBy, RequestFactory
from tests.sandbox.world.small import small_world


@pytest.mark.parametrize("layout", get_args(CandidatesBy))
def test_a_request_has_the_form_of_a_bidder(layout: CandidatesBy) -> None:
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
        keys = ["ad_id"] if layout == "id" else list(ads[0])
        assert document["candidates"] == {key: [ad[key] for ad in ads] for key in keys}
    assert record.headers == [("request_id", record.request_id.encode()), ("deadline_ms", b"25.5")]


def test_options_that_are_not_set_are_not_sent() -> None:
    record = RequestFactory(small_world(), candidates=1).next()
    assert set(orjson.loads(record.value)) == {"request_id", "user", "context", "candidates"}
    assert record.headers == []


def test_factories_are_reproducible_by_seed() -> None:
    def first(seed: int) -> list[bytes]:
        factory = RequestFactory(small_world(), candidates=5, seed=seed)
        return [factory.next().value for _ in range(300)]

    assert first(1) == first(1)
    assert first(1) != first(2)
