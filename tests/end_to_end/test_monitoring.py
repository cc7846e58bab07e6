"""Dashboard, alerts and documentation use only metrics and labels of a running scorer."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from sandbox.model_server.simulated import set_fault
from sandbox.processes.model_server import ModelServerProcess
from streamer.metrics import Metrics
from tests.end_to_end.conftest import System, request

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).parents[2]
# Labels that Prometheus adds, and the bounds of a histogram.
_ADDED = {"instance", "job", "le", "alertname", "alertstate"}
_NAME = re.compile(r"\b(?:streamer|process)_[a-z_]+")
_MATCHED = re.compile(r"(\w+)\s*(?:=~|!=|!~|=)\s*\"")
_GROUPED = re.compile(r"\bby \(([^)]*)\)")


def _alerts() -> Iterator[tuple[str, str, str]]:
    rules = yaml.safe_load((ROOT / "configs/prometheus/alerts.yml").read_text())
    for rule in rules["groups"][0]["rules"]:
        shown = re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])
        yield rule["alert"], rule["expr"], " ".join(shown)


def _panels() -> Iterator[tuple[str, str, str]]:
    dashboard = json.loads((ROOT / "configs/grafana/dashboards/streamer.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            if ":tensorflow:" in target["expr"]:
                continue  # of the model server: test_prometheus.py
            yield panel["title"], target["expr"], " ".join(re.findall(r"{{(\w+)}}", target["legendFormat"]))


def _counted() -> set[str]:
    """The counters whose increase raises an alert."""
    return {name for _, expr, _ in _alerts() for name in re.findall(r"\b(?:rate|increase)\((\w+)", expr)}


@pytest.fixture
def labels(make_system: Callable[[str], System], simulated_server: ModelServerProcess) -> Mapping[str, set[str]]:
    """The labels of each sample name of two workers, after good and bad records."""
    system = make_system(simulated_server.address)
    with system.scorer(supervisor__workers=2, delivery__guarantee="exactly_once") as scorer:
        first = scorer.get("/metrics")
        # Prometheus sees no increase where a counter appears with its first event.
        assert [name for name in _counted() if not re.search(rf"^{name}(\{{| )", first, re.MULTILINE)] == []
        system.send([request("good"), b"{nonsense"])
        system.answers(1)
        set_fault(simulated_server.address, "refused")
        try:
            system.send([request("without scores", ads=["new"], deadline_ms=2000)])
            system.answers(2)
        finally:
            set_fault(simulated_server.address, "none")
        system.read(system.dead_letters, 1)
        text = scorer.get("/metrics")
    found: dict[str, set[str]] = defaultdict(set)
    for family in text_string_to_metric_families(text):
        if family.name.endswith("_created"):
            continue  # the start time of a counter, which the library adds
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        for suffix in suffixes:
            found[family.name + suffix]  # a metric without samples exists, too
        for sample in family.samples:
            found[sample.name] |= set(sample.labels)
    return found


def test_watched_metrics_exist_and_all_metrics_are_documented(labels: Mapping[str, set[str]]) -> None:
    # The labels of a metric without samples are only in its definition.
    collectors = Metrics().registry._collector_to_names  # noqa: SLF001
    declared = (set(getattr(collector, "_labelnames", ())) for collector in collectors)
    somewhere = set().union(*labels.values(), *declared)
    for where, expression, shown in (*_alerts(), *_panels()):
        names = set(_NAME.findall(expression))
        assert names <= set(labels) or expression.startswith("up{"), f"{where}: {names - set(labels)}"
        known = set().union(*(labels[name] for name in names)) if all(labels[n] for n in names) else somewhere
        grouped = {label.strip() for group in _GROUPED.findall(expression) for label in group.split(",")}
        used = (set(_MATCHED.findall(expression)) | grouped) - _ADDED
        assert used <= known, f"{where}: {used - known}"
        shown_metrics = set(shown.split()) - _ADDED
        assert shown_metrics <= (grouped or known), f"{where} shows {shown_metrics - grouped}"

    documented = (ROOT / "docs/operations.md").read_text()
    stems = {re.sub(r"_(bucket|sum|count)$", "", name) for name in labels if name.startswith("streamer_")}
    assert not [stem for stem in sorted(stems) if not re.search(rf"\b{stem}\b", documented)]
