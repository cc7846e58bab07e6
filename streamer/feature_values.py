"""Counts of the features' values in sampled requests, as metrics."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

_COUNTS = (
    ("streamer_features_sampled", "places for a value in sampled requests"),
    ("streamer_features_present", "values in these places"),
)
_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


@dataclass(frozen=True, slots=True)
class _Counted:
    """The two counts of a feature, and its labels in the text of a scrape."""

    counts: list[int]
    labels: str


class FeatureValues:
    """Counts of the places for a feature's value in sampled requests, and of the values in them."""

    def __init__(self) -> None:
        self._features: dict[tuple[str, str], _Counted] = {}

    def of(self, model: str, feature: str) -> list[int]:
        """The two counts of a feature, to which the caller adds."""
        counted = self._features.get((model, feature))
        if counted is None:
            labels = f'{{feature="{feature.translate(_ESCAPED)}",model="{model.translate(_ESCAPED)}"}}'
            counted = self._features[model, feature] = _Counted([0, 0], labels)
        return counted.counts

    def collect(self) -> Iterator[Metric]:
        """The samples, as the registry asks for them."""
        for i, (name, meaning) in enumerate(_COUNTS):
            yield _Family(name, meaning, self._features, i)


class _Family(CounterMetricFamily):
    """A counter by model and feature. Its samples are made when they are read.

    Those of thousands of features take milliseconds, and the history of the status page does not read them.
    """

    def __init__(self, name: str, meaning: str, features: Mapping[tuple[str, str], _Counted], i: int) -> None:
        self._features, self._i = features, i
        super().__init__(name, meaning, labels=["model", "feature"])

    @property
    def samples(self) -> list[Sample]:
        """The present counts."""
        return [
            Sample(f"{self.name}_total", {"model": model, "feature": feature}, counted.counts[self._i])
            for (model, feature), counted in list(self._features.items())
        ]

    @samples.setter
    def samples(self, _: list[Sample]) -> None:
        """Ignores the list that `Metric` sets."""

    def text(self) -> str:
        """The present counts, the samples of `generate_latest`, at a tenth of its time."""
        name, i = f"{self.name}_total", self._i
        lines = [f"{name}{counted.labels} {counted.counts[i]}\n" for counted in self._features.values()]
        return f"# HELP {name} {self.documentation}\n# TYPE {name} counter\n{''.join(lines)}"


@dataclass(frozen=True, slots=True)
class _Others:
    """The families of a registry, but those of features.

    Their text is in `texts` after they were collected.
    """

    registry: Collector
    texts: list[str] = field(default_factory=list)

    def collect(self) -> Iterator[Metric]:
        for family in self.registry.collect():
            if isinstance(family, _Family):
                self.texts.append(family.text())
            else:
                yield family


def scraped_text(registry: Collector) -> bytes:
    """The samples of a registry in Prometheus' text format, those of `generate_latest`.

    A scrape runs in the event loop of a worker; a sample of `generate_latest` takes 5 µs.
    """
    others = _Others(registry)
    return generate_latest(others) + "".join(others.texts).encode()
