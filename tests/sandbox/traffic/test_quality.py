"""Quality of served scores on drawn clicks."""

from typing import Any

import numpy as np
import pytest

from sandbox.traffic.checker import Sample
from sandbox.traffic.quality import Documents, quality
from sandbox.world.bid_requests import RequestFactory
from tests.sandbox.world.small import small_world


def test_quality_of_the_true_probabilities_and_of_their_inverse() -> None:
    """True probabilities as scores reach their own AUC exactly; inverted, one minus it."""
    world = small_world()
    factory = RequestFactory(world, candidates=100)
    right, reverse = [], []
    for _ in range(150):
        record = factory.next()
        context = record.contexts.one(record.row)
        ctr = world.true_ctr(record.user, context, record.ads)
        right.append(Sample(record.user, context, record.ads, ctr))
        reverse.append(Sample(record.user, context, record.ads, 1.0 - ctr))
    found = quality(world, tuple(right), shown=60)
    assert found.impressions == 150 * 60
    assert found.served == found.bayes
    assert 0.75 < found.bayes < 0.86
    assert found.mean_ctr == pytest.approx(found.mean_served)
    assert quality(world, tuple(reverse), shown=60).served == pytest.approx(1.0 - found.bayes)
    assert np.isnan(found.baseline)
    assert np.isnan(quality(world, ()).served)


def test_a_baseline_is_measured_on_the_same_clicks() -> None:
    """The baseline gets documents and candidates only; click rates of ads predict little."""
    world = small_world()
    factory = RequestFactory(world, candidates=40)
    seen: list[tuple[Documents, Documents, list[int]]] = []

    def by_click_rate(
        documents: Documents, candidates: Documents, shown: list[int]
    ) -> np.ndarray[Any, np.dtype[np.float64]]:
        seen.append((documents, candidates, shown))
        return np.array([candidate["ctr"] for candidate in candidates], dtype=np.float64)

    records = [factory.next() for _ in range(100)]
    samples = tuple(Sample(r.user, r.contexts.one(r.row), r.ads, np.full(40, 0.5)) for r in records)
    found = quality(world, samples, shown=30, baseline=by_click_rate)
    [(documents, candidates, shown)] = seen
    assert len(candidates) == found.impressions == 3_000
    assert len(documents) == 100
    assert shown == [30] * 100
    assert set(documents[0]) == {"user", "context"}
    assert found.served == 0.5
    assert 0.5 < found.baseline < found.bayes
