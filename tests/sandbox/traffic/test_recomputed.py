"""Answers to requests by id: their position, and their scores computed again."""

from collections.abc import Sequence

import numpy as np
import orjson
import pytest

from sandbox.traffic.ad_history import AdHistory
from sandbox.traffic.checker import Sample
from sandbox.traffic.recomputed import Question, Recomputed, compared, question
from sandbox.world.ad_changes import AdChange, AdChanges
from streamer.types import F32
from tests.sandbox.traffic.answers import Bench, answer_to
from tests.sandbox.world.small import small_world

PARTITIONS = 3


class Broker:
    """Stores changes with the offsets of their partitions."""

    def __init__(self, history: AdHistory) -> None:
        self.history, self.ends = history, [0] * PARTITIONS

    def store(self, change: AdChange) -> None:
        partition = change.ad % PARTITIONS
        self.history.add(change, partition, self.ends[partition])
        self.ends[partition] += 1


def scores(questions: Sequence[Question]) -> list[F32]:
    """A model whose score is a bid."""
    bids = [[orjson.loads(row).get("bid", 0.0) / 100 for row in q.request.rows or ()] for q in questions]
    return [np.array(each, dtype=np.float32) for each in bids]


@pytest.fixture
def broker() -> Broker:
    broker = Broker(AdHistory("ads", PARTITIONS))
    changes = AdChanges(small_world())
    for change in changes.catalogue():
        broker.store(change)
    return broker


def test_an_ad_has_its_value_of_the_position(broker: Broker) -> None:
    history, partition = broker.history, 1
    start, ad = broker.ends[partition], 4
    first = history.at(ad, broker.ends)
    for value in (b'{"bid":2}', None, b'{"bid":3}'):
        broker.store(AdChange(ad, b"a", value))
    found = [history.at(ad, [0, start + i, 0]) for i in range(4)]
    assert found == [first, b'{"bid":2}', None, b'{"bid":3}']
    assert history.at(ad, [0, 0, 0]) is None
    assert [history.changes_before(ad, [0, start + i, 0]) for i in range(4)] == [0, 1, 2, 3]
    assert history.at(599, broker.ends) is None, "an ad that the catalogue has later"
    assert history.kinds == {"changed": 1, "deleted": 1, "added": 594 + 1}
    assert history.ends == tuple(broker.ends)


def asked(broker: Broker, bench: Bench, positions: Sequence[int], damage: float = 0.0) -> str:
    """The verdict of an answer with the scores of the ads at `positions`."""
    record, history = bench.ask(), broker.history
    values = [history.at(ad, positions) for ad in record.ads.tolist()]
    ctr = [0.0 if value is None else orjson.loads(value)["bid"] / 100 for value in values]
    ctr[3] += damage
    answer = answer_to(record, ctr=ctr, ads={"topic": "ads", "positions": list(positions)})
    return bench.checker.check(orjson.dumps(answer), 1.0)


def again(broker: Broker, samples: Sequence[Sample]) -> Recomputed:
    world, history = small_world(), broker.history
    return compared(world, samples, scores([question(world, s, history) for s in samples]), history)


def test_scores_are_computed_from_the_ads_at_the_answers_position(broker: Broker) -> None:
    bench, changes = Bench(history=broker.history), AdChanges(small_world(), seed=1)
    early = tuple(broker.ends)
    for _ in range(2_000):
        broker.store(changes.next())
    assert asked(broker, bench, early) == "right"
    assert asked(broker, bench, broker.ends) == "right"
    found = again(broker, bench.checker.samples)
    assert (found.answers, found.candidates, found.wrong, found.examples) == (2, 40, 0, ())
    assert found.changed > 5
    assert found.behind == 2_000
    assert found.max_difference < 1e-7
    assert asked(broker, bench, broker.ends, damage=1e-4) == "right"
    found = again(broker, bench.checker.samples)
    assert found.wrong == 1
    assert "computed again" in found.examples[0]


def test_an_answer_beyond_the_topic_is_wrong(broker: Broker) -> None:
    bench = Bench(history=broker.history)
    assert asked(broker, bench, [end + 1 for end in broker.ends]) == "right"
    assert again(broker, bench.checker.samples).wrong == 1


@pytest.mark.parametrize(
    "ads",
    [
        ...,
        None,
        {"topic": "ads"},
        {"topic": "ads", "positions": [1, 2]},
        {"topic": "ads", "positions": [1, 2, True]},
        {"topic": "ads", "positions": [1, 2, -1]},
        {"topic": "other", "positions": [1, 2, 3]},
    ],
)
def test_an_answer_without_a_position_of_the_topic_is_a_fault(broker: Broker, ads: object) -> None:
    bench = Bench(history=broker.history)
    assert bench.checker.check(orjson.dumps(answer_to(bench.ask(), ads=ads)), 1.0) == "bad_position"


def test_an_answer_without_scores_needs_no_position(broker: Broker) -> None:
    bench = Bench(history=broker.history)
    late = answer_to(bench.ask(), status="expired", ad_id=..., ctr=..., source=...)
    assert bench.checker.check(orjson.dumps(late), 1.0) == "right"
