"""Each alert fires after its time, and stays quiet on healthy, absent and restarted series. With a runbook."""

import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring.alert_cases import CASES, STEP_S, A, B, Case, healthy
from tests.monitoring.programs import command

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "configs/prometheus"
RULES: dict[str, Any] = {
    rule["alert"]: rule
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
}
_QUIET_S = 2400
_UNITS = {"s": 1, "m": 60, "h": 3600}
# A restarted process: its counters begin again at 0, and grow as before or, those of failures, no more.
_RESTARTED = {"counters": "7x100 0x140", "work": "0+150x100 0+150x140"}


def _run(*arguments: str | Path) -> None:
    result = subprocess.run(
        [*command("promtool"), *arguments], capture_output=True, text=True, check=False, timeout=600
    )
    assert result.returncode == 0, result.stdout + result.stderr


def _inputs(*machines: Mapping[str, str | None]) -> list[dict[str, str]]:
    return [
        {"series": name, "values": values}
        for machine in machines
        for name, values in machine.items()
        if values is not None
    ]


def _of_b(series: Mapping[str, str | None]) -> dict[str, str | None]:
    return {name.replace(A, B): values for name, values in series.items()}


def _never(alerts: Iterable[str]) -> list[dict[str, Any]]:
    """None of these alerts fires at any time."""
    names = "|".join(alerts)
    fired = f'count_over_time(ALERTS{{alertstate="firing",alertname=~"{names}"}}[2h])'
    return [{"expr": fired, "eval_time": f"{_QUIET_S}s", "exp_samples": []}]


def _test(inputs: list[dict[str, str]], **expected: object) -> dict[str, Any]:
    return {"interval": f"{STEP_S}s", "input_series": inputs, **expected}


def _fires(case: Case) -> dict[str, Any]:
    """It is pending until its time has passed, then it fires with its labels and annotations."""
    rule = RULES[case.alert]
    hold = str(rule.get("for", "0s"))
    at = case.active_s + int(hold[:-1]) * _UNITS[hold[-1]]
    alert = {
        "exp_labels": {"severity": rule["labels"]["severity"], **case.labels},
        "exp_annotations": {"summary": case.summary, "runbook": rule["annotations"]["runbook"]},
    }
    expected = [{"alertname": case.alert, "eval_time": f"{at}s", "exp_alerts": [alert]}]
    if at:
        expected.append({"alertname": case.alert, "eval_time": f"{at - STEP_S}s", "exp_alerts": []})
    other = _of_b(case.series) if case.both else {}
    inputs = _inputs({**healthy(A), **case.series}, {**healthy(B), **other})
    return _test(inputs, alert_rule_test=expected)


def _stays_quiet(case: Case, series: Mapping[str, str | None]) -> dict[str, Any]:
    return _test(_inputs({**healthy(A), **healthy(B), **series}), promql_expr_test=_never([case.alert]))


@pytest.mark.slow
def test_prometheus_accepts_rules_and_configuration(tmp_path: Path) -> None:
    _run("check", "rules", FOLDER / "alerts.yml")
    # In the container the rules are in /etc/prometheus.
    copy = tmp_path / "prometheus.yml"
    copy.write_text((FOLDER / "prometheus.yml").read_text().replace("/etc/prometheus", str(FOLDER)))
    _run("check", "config", copy)


@pytest.mark.slow
def test_each_alert_fires_in_trouble_and_only_then(tmp_path: Path) -> None:
    tests = [
        _test(_inputs(healthy(A), healthy(B)), promql_expr_test=_never(RULES)),
        _test(_inputs(healthy(A, **_RESTARTED), healthy(B)), promql_expr_test=_never(RULES)),
        # Nothing but a target that answers, such as a worker that starts.
        _test([{"series": f"up{{{A}}}", "values": "1x240"}], promql_expr_test=_never(RULES)),
        *(_fires(case) for case in CASES),
        *(_stays_quiet(case, series) for case in CASES for series in case.quiet),
    ]
    whole = {"rule_files": [str(FOLDER / "alerts.yml")], "evaluation_interval": f"{STEP_S}s", "tests": tests}
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump(whole, width=1000))
    _run("test", "rules", file)


def test_each_alert_has_a_case() -> None:
    assert {case.alert for case in CASES} == set(RULES)


def test_each_series_of_the_rules_is_in_the_healthy_system() -> None:
    used = {name for rule in RULES.values() for name in re.findall(r"\b(?:streamer_[a-z_]+|up)\b", rule["expr"])}
    assert used == {name.partition("{")[0] for name in healthy(A)}


@pytest.mark.parametrize("alert", RULES)
def test_each_alert_has_a_runbook(alert: str) -> None:
    page, _, anchor = RULES[alert]["annotations"]["runbook"].partition("#")
    assert anchor == alert.lower()
    section = (ROOT / page).read_text(encoding="utf-8").partition(f"\n### {alert}\n")[2].partition("\n#")[0]
    assert re.findall(r"^\*\*(\w+)", section, re.MULTILINE) == ["Meaning", "First", "Remedy"]
