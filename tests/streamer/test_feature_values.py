"""The counts of features in the text of a scrape."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from streamer.feature_values import scraped_text
from streamer.metrics import Metrics

_NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


def _samples(families: Iterable[Metric]) -> dict[tuple[str, str, str], list[tuple[str, dict[str, str], float]]]:
    return {
        (family.name, family.type, family.documentation): [(s.name, s.labels, s.value) for s in family.samples]
        for family in families
    }


@given(st.dictionaries(st.tuples(_NAMES, _NAMES), st.integers(0, 2**53), max_size=5))
def test_a_scrape_has_all_samples_of_the_registry(counts: dict[tuple[str, str], int]) -> None:
    metrics = Metrics()
    for (model, feature), count in counts.items():
        metrics.feature_values.of(model, feature)[:] = [count, count // 2]
    text = scraped_text(metrics.registry).decode()
    found = _samples(text_string_to_metric_families(text))
    expected = _samples(text_string_to_metric_families(generate_latest(metrics.registry).decode()))
    # Of the process, which works in between.
    for name in [name for name in expected if name[0].startswith("process_")]:
        del found[name], expected[name]
    assert found == expected
    assert len(found["streamer_features_sampled", "counter", "places for a value in sampled requests"]) == len(counts)


@pytest.mark.parametrize("name", ["a", 'a"', "a\\n", "a\n"])
def test_a_scrape_has_the_present_counts(name: str) -> None:
    metrics = Metrics()
    counts = metrics.feature_values.of("ctr", name)
    assert metrics.feature_values.of("ctr", name) is counts
    for expected in (3, 4):
        counts[:] = [expected, 1]
        families = _samples(text_string_to_metric_families(scraped_text(metrics.registry).decode()))
        (sample,) = families["streamer_features_sampled", "counter", "places for a value in sampled requests"]
        assert sample == ("streamer_features_sampled_total", {"model": "ctr", "feature": name}, expected)
