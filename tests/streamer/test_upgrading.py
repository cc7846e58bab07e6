"""The upgrade notes of docs/operations.md name all renamed settings, metrics and alerts.

The names in the section "Upgrading from 0.1" are those of the code.
"""

import re
from pathlib import Path

import pytest
import yaml

from streamer.metrics import Metrics
from streamer.settings.names import RENAMED

ROOT = Path(__file__).parents[2]
_PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
_HEADING = "## Upgrading from 0.1"
_SECTION = _PAGE.partition(_HEADING)[2]
_RENAMED_METRICS = {
    "source_failures": "source_fetch_failures",
    "source_in_flight_bytes": "source_unacknowledged_bytes",
    "sink_failures": "sink_send_failures",
    "cache_followed": "cache_single_flight",
    "batching_waiting_rows": "batching_queued_rows",
    "batching_in_flight_limit": "batching_concurrency_limit",
    "versions_pinned": "rollout_serving_version",
    "versions_incoming_share": "rollout_incoming_share",
    "versions_switches": "rollout_version_changes",
    "versions_rollbacks": "rollout_rollbacks",
    "delivery_careful_partitions": "delivery_isolated_partitions",
}


def _table(column: str) -> dict[str, str]:
    """A table of the section: the code of each row's first cell to that of its second cell."""
    rows = _SECTION.partition(f"| {column} |")[2].partition("\n\n")[0].splitlines()[2:]
    return {old: new for row in rows for old, new in re.findall(r"^\| `([^`]+)`[^|]* \| `([^`]+)`", row)}


def _files() -> list[Path]:
    return [path for path in (ROOT / "configs").rglob("*") if path.is_file()]


def test_the_table_of_settings_is_the_codes_own() -> None:
    assert _table("setting in 0.1") == RENAMED


def test_the_table_of_metrics_names_metrics_that_exist() -> None:
    types = {metric.name: metric.type for metric in Metrics().registry.collect()}
    documented = _table("metric in 0.1")
    for old, new in documented.items():
        name = new.removesuffix("_total")
        assert types[name] == ("counter" if new.endswith("_total") else "gauge")
        assert old.endswith("_total") == new.endswith("_total")
    changed_meaning = {"streamer_source_in_flight_records": "streamer_source_unacknowledged_records"}
    short = {old.removesuffix("_total"): new.removesuffix("_total") for old, new in documented.items()}
    assert short == changed_meaning | {f"streamer_{old}": f"streamer_{new}" for old, new in _RENAMED_METRICS.items()}


def test_no_old_metric_exists() -> None:
    names = {metric.name for metric in Metrics().registry.collect()}
    assert not names & {f"streamer_{old}" for old in _RENAMED_METRICS}


def test_alerts_have_their_new_names() -> None:
    rules = yaml.safe_load((ROOT / "configs/prometheus/alerts.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
    names = {rule["alert"] for rule in rules}
    renamed = dict(re.findall(r"\| alert `(\w+)` \| `(\w+)` \|", _SECTION))
    assert len(renamed) == 6
    assert set(renamed.values()) <= names
    assert not renamed.keys() & names


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_of_the_configuration_has_an_old_name(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    metrics = [old for old in _RENAMED_METRICS if re.search(rf"\bstreamer_{old}(_total)?\b", text)]
    settings = [old for old in RENAMED if re.search(rf"\b{old.partition('.')[2]}\s*:", text)]
    assert (metrics, settings) == ([], [])
    assert "left_out" not in text
    assert "pinned_by_operator" not in text
