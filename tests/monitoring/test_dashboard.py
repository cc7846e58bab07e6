"""The dashboard as Grafana needs it: units, legends, thresholds, descriptions, a data source that can be chosen."""

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "configs/grafana/dashboards/streamer.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
SHOWN = [panel for panel in PANELS if panel["type"] != "row"]
_WIDTH = 24


def test_rows_are_questions_in_the_order_of_an_incident() -> None:
    rows = [panel["title"] for panel in PANELS if panel["type"] == "row"]
    assert rows[0] == "Golden signals"
    assert all("?" in title for title in rows[1:])
    assert len(rows) > 8


def test_panels_have_numbers_of_their_own_and_do_not_overlap() -> None:
    assert max(Counter(panel["id"] for panel in PANELS).values()) == 1
    taken = Counter(
        (x, y)
        for at in (panel["gridPos"] for panel in PANELS)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    )
    assert max(taken.values()) == 1
    assert max(x for x, _ in taken) < _WIDTH
    tops = [panel["gridPos"]["y"] for panel in PANELS if panel["type"] == "row"]
    assert all(above < below for above, below in pairwise(tops))


@pytest.mark.parametrize("panel", SHOWN, ids=lambda panel: str(panel["title"]))
def test_a_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"]
    assert panel["description"].endswith(".")
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert [target["refId"] for target in panel["targets"]] == [chr(65 + i) for i in range(len(panel["targets"]))]
    named = {target["legendFormat"] for target in panel["targets"]}
    assert len(named) == len(panel["targets"])
    for target in panel["targets"]:
        assert target["legendFormat"]
        # A fixed window is wrong for another scrape interval.
        assert not re.search(r"\[\d+[smh]\]", target["expr"]), target["expr"]
        assert "$instance" in target["expr"] or re.search(r"ALERTS|:tensorflow:", target["expr"]), target["expr"]
    moved = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
    assert moved <= named, "an override of a line that does not exist"
    if panel["type"] == "stat":
        assert len(defaults["thresholds"]["steps"]) >= 1
        assert defaults["noValue"]


def test_limits_of_the_alerts_are_lines_in_the_panels() -> None:
    steps = {
        panel["title"]: [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1:]]
        for panel in SHOWN
        if "thresholds" in panel["fieldConfig"]["defaults"]
    }
    rules = (ROOT / "configs/prometheus/alerts.yml").read_text(encoding="utf-8")
    for title, limits, alert in (
        ("Latency: scoring time", [0.01], "StreamerSlow"),
        ("Errors: share of answers", [0.01, 0.05], "StreamerNotScored"),
        ("Lag in seconds, by partition", [5], "StreamerLag"),
        ("Delay of the event loop, p99", [0.05], "StreamerLoopBlocked"),
        ("Lag of the table, and time since it was known to be current", [60], "StreamerTableBehind"),
    ):
        assert steps[title] == limits
        rule = rules.partition(f"alert: {alert}\n")[2].partition("labels:")[0]
        assert re.search(rf"> {limits[-1]}\b", rule), alert


def test_its_variables_are_the_data_source_and_the_instance() -> None:
    source, instance = DASHBOARD["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    assert instance["datasource"]["uid"] == "${datasource}"
    assert instance["includeAll"]
    assert {each["datasource"]["uid"] for each in DASHBOARD["annotations"]["list"]} == {"${datasource}"}
