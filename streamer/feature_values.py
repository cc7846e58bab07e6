"""Counts of the features' values in sampled requests, as metrics."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.samples import Sample

_COUNTS = (
    ("streamer_features_sampled", "places for a value in sampled requests"),
    ("streamer_features_present", "values in these places"),
)


class FeatureValues:
    """Counts of the places for a feature's value in sampled requests, and of the values in them."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], list[int]] = {}

    def of(self, model: str, feature: str) -> list[int]:
        """The two counts of a feature, to which the caller adds."""
        return self._counts.setdefault((model, feature), [0, 0])

    def collect(self) -> Iterator[Metric]:
        """The samples, as the registry asks for them."""
        for i, (name, meaning) in enumerate(_COUNTS):
            yield _Family(name, meaning, self._counts, i)


class _Family(CounterMetricFamily):
    """A counter by model and feature. Its samples are made when they are read.

    Those of thousands of features take milliseconds, and the history of the status page does not read them.
    """

    def __init__(self, name: str, meaning: str, counts: Mapping[tuple[str, str], list[int]], i: int) -> None:
        self._counts, self._i = counts, i
        super().__init__(name, meaning, labels=["model", "feature"])

    @property
    def samples(self) -> list[Sample]:
        """The present counts."""
        return [
            Sample(f"{self.name}_total", {"model": model, "feature": feature}, counts[self._i])
            for (model, feature), counts in list(self._counts.items())
        ]

    @samples.setter
    def samples(self, _: list[Sample]) -> None:
        """Ignores the list that `Metric` sets."""
