"""The format of a result, its parts, the pictures, and the command line."""

import json
import math
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks import (
    cache,
    input_pipeline,
    model_rows,
    overload,
    serving_settings,
    stages,
    throughput,
    tracing,
    workers,
)
from benchmarks.__main__ import SCENARIOS, main
from benchmarks.bench import Bench, Service
from benchmarks.figures import Load
from benchmarks.hit_ratio import HitRatios, hit_ratios, zipf_trace
from benchmarks.plots import PICTURES, draw, series
from benchmarks.programs import Run
from benchmarks.report import Figure, values_of, write
from streamer.scoring.cache import ScoreCache
from streamer.settings.sections import BatchingSettings, CacheSettings

NAN = float("nan")


def test_a_result_has_the_documented_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = [
        Figure("kept", 1.23456, "ms", "<=", 2.0),
        Figure("broken", 0.5, "ratio", ">=", 0.8),
        Figure("unbound", 12345.0, "rows"),
        Figure("unmeasured", NAN, "ms", "<=", 2.0),
    ]
    write("trial", figures, {"seconds": 1}, tmp_path)
    content = json.loads((tmp_path / "trial.json").read_text())
    assert set(content) == {"scenario", "command", "machine", "settings", "figures"}
    assert (content["scenario"], content["settings"]) == ("trial", {"seconds": 1})
    assert content["figures"] == {
        "kept": {"value": 1.2346, "unit": "ms", "bound": "<= 2", "holds": True},
        "broken": {"value": 0.5, "unit": "ratio", "bound": ">= 0.8", "holds": False},
        "unbound": {"value": 12345.0, "unit": "rows", "bound": None, "holds": None},
        "unmeasured": {"value": None, "unit": "ms", "bound": "<= 2", "holds": False},
    }
    shown = capsys.readouterr().out
    assert "NO" in shown
    assert "not measured" in shown


def test_a_service_has_its_capacity_in_full_batches() -> None:
    rows = BatchingSettings().batch_rows
    service = Service.of_capacity(40.0, 300, workers=2)
    call_s = (service.fixed_ms + service.per_row_us * rows / 1e3) / 1e3
    assert service.workers * rows / 300 / call_s == pytest.approx(40.0)
    assert service.fixed_ms / 1e3 == pytest.approx(0.2 * call_s)


def test_overload_compares_three_times_the_load_with_the_load() -> None:
    loads = {load: Load(load, min(load, 100) * 0.9 ** (load > 100), 1.0, 2.0, 300.0) for load in overload.LOADS}
    figures = {figure.name: figure for figure in overload.figures_of("real", loads, bound=0.6)}
    assert figures["real_goodput_300_over_100"].value == pytest.approx(0.9)
    assert figures["real_goodput_300_over_100"].holds
    assert len(figures) == 1 + 5 * len(overload.LOADS)


def test_overload_without_goodput_has_no_ratio() -> None:
    loads = dict.fromkeys(overload.LOADS, Load(1.0, 0.0, NAN, NAN, NAN))
    figures = overload.figures_of("real", loads, bound=0.6)
    assert math.isnan(figures[0].value)
    assert figures[0].holds is False


def test_a_setting_of_a_model_server_is_a_ratio_of_medians() -> None:
    names = ("intra_op_1_1", "intra_op_1_3", "intra_op_all_1", "float_val_1", "first_call_with_warm_up", "p99_before_0")
    others = ("intra_op_all_3", "tensor_content_1", "first_call_without_warm_up", "p99_loading_0", "p99_before_1")
    rounds = {name: [1.0, 2.0, 90.0] for name in names} | {name: [3.0, 50.0, 1.0] for name in others}
    rounds |= {"p99_loading_1": [6.0], "resident_1": [500.0], "resident_2": [520.0], "resident_3": [540.0, 560.0]}
    figures = {f.name: f.value for f in serving_settings.figures_of(rounds)}
    assert figures["intra_op_all_over_1_callers_3"] == pytest.approx(1.5)
    assert figures["load_threads_1_p99_loading_over_before"] == pytest.approx(2.0)
    assert figures["resident_per_version"] == pytest.approx(25.0)


@pytest.mark.parametrize(("bounded", "holds"), [(True, True), (False, None)])
def test_only_a_cpu_that_multiplies_bfloat16_must_be_faster_with_it(bounded: bool, holds: bool | None) -> None:
    exact = model_rows.Point("wide_deep", "float32", "score", 300)
    costs = {exact: model_rows.Cost(1.5, 2.0), exact._replace(compute="bfloat16"): model_rows.Cost(1.0, 1.0)}
    figures = {f.name: f for f in model_rows.figures_of(costs, {}, {"dcn": (0.75, 0.749)}, bounded=bounded)}
    assert figures["wide_deep_factored_300_float32"].value == pytest.approx(200.0)
    assert figures["wide_deep_factored_300_bfloat16_over_float32"].value == pytest.approx(1.5)
    assert figures["wide_deep_factored_300_bfloat16_over_float32"].holds is holds
    assert figures["dcn_auc_lost"].holds is False


def test_the_largest_difference_from_the_ideal_counts() -> None:
    figures = {f.name: f.value for f in cache.figures_of({64: HitRatios(0.5, 0.508), 256: HitRatios(0.703, 0.7)})}
    assert figures["hit_ratio_off_ideal"] == pytest.approx(0.8)
    assert (figures["hit_ratio_64_kib"], figures["ideal_hit_ratio_256_kib"]) == (0.5, 0.7)


def test_a_zipf_trace_requests_the_first_rows_most() -> None:
    trace = zipf_trace(50, 400, 20)
    asked = Counter(trace.ravel().tolist())
    assert trace.shape == (400, 20)
    assert trace.min() == 0
    assert trace.max() < 50
    assert asked[0] / asked[1] == pytest.approx(2.0, rel=0.2)
    np.testing.assert_array_equal(trace, zipf_trace(50, 400, 20))


def test_a_trace_too_short_for_the_cache_is_rejected() -> None:
    small = ScoreCache(CacheSettings(max_bytes=2**16, ttl_s=1e6))
    with pytest.raises(ValueError, match="too short"):
        hit_ratios(small, zipf_trace(100, 30, 20))


def test_the_cost_of_a_request_in_the_cache_is_a_time() -> None:
    assert cache.median_cost_ms(20, turns=3) > 0


def test_the_slowest_step_of_the_input_pipeline_is_named() -> None:
    rates = {"batches": 90_000.0, "reading": 300_000.0, "parsing": 120_000.0}
    assert input_pipeline.slowest_step(rates) == "parsing"
    figures = {figure.name: figure.holds for figure in input_pipeline.figures_of(rates)}
    assert figures == {"batches": False, "reading": None, "parsing": None}


def test_series_are_read_from_names() -> None:
    values = {"hit_ratio_64_kib": 0.1, "hit_ratio_1024_kib": 0.3, "hit_ratio_256_kib": 0.2, "ideal_hit_ratio_64_kib": 1}
    assert series(values, "hit_ratio_", "_kib") == ([64, 256, 1024], [0.1, 0.2, 0.3])
    assert series(values, "goodput_") == ([], [])


def test_pictures_are_drawn_for_measured_scenarios(tmp_path: Path) -> None:
    figures, images = tmp_path / "bench", tmp_path / "images"
    assert draw(figures, images) == []
    loads = {load: Load(load, 0.0 if load == 25 else load, 1.0, NAN, 300.0) for load in overload.LOADS}
    write("decisions", overload.figures_of("steady", loads, bound=0.6), {}, figures)
    assert "steady_latency_p99_25" not in values_of(figures / "decisions.json")
    write("cache", cache.figures_of({64: HitRatios(0.5, 0.508)}), {}, figures)
    runs = {name: [Run(100.0, 1.0, 100.0, {})] for name in ("scorer", "floor", "naive")}
    write("throughput", throughput.figures_of("rows", runs), {}, figures)
    write("stages", stages.figures_of("rows", stages.Profile({"decode": 100.0, "commit": 5.0}, 110.0)), {}, figures)
    drawn = draw(figures, images)
    measured = {"decisions", "cache", "throughput", "stages"}
    assert [path.stem for path in drawn] == [name for name, (scenario, _) in PICTURES.items() if scenario in measured]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


def test_workers_are_compared_by_round() -> None:
    def run(cpu_ms: float) -> Run:
        return Run(requests_per_second=100.0, cpu_ms=cpu_ms, resident_mb=100.0, scores={})

    # The machine is half as fast in the second round; two workers cost 4 % more in each.
    figures = {f.name: f for f in workers.figures_of({1: [run(1.0), run(2.0)], 2: [run(1.04), run(2.08)]})}
    assert figures["cpu_of_two_over_one"].value == pytest.approx(1.04)
    assert figures["cpu_of_two_over_one"].holds
    assert not {f.name: f for f in workers.figures_of({1: [run(1.0)], 2: [run(1.2)]})}["cpu_of_two_over_one"].holds


def test_turns_with_and_without_traces_are_compared_by_round() -> None:
    # The machine is half as fast in the second round.
    found = {"off": [1.0, 2.0], "one_percent": [1.02, 2.04], "all": [1.5, 2.7]}
    figures = {f.name: f for f in tracing.figures_of(found, 0.0)}
    assert figures["one_percent_over_off"].value == pytest.approx(1.02)
    assert figures["cpu_per_sampled_request"].value == pytest.approx(0.6)
    assert figures["one_percent_over_off"].holds
    assert figures["lost_spans"].holds
    slower = {f.name: f for f in tracing.figures_of({**found, "one_percent": [1.04, 2.08]}, 1.0)}
    assert not slower["one_percent_over_off"].holds
    assert not slower["lost_spans"].holds


def test_an_unknown_scenario_is_rejected_with_the_known_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", "overlord"])
    with pytest.raises(SystemExit):
        main()
    message = capsys.readouterr().err
    assert "'overlord'" in message
    assert all(name in message for name in SCENARIOS)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["throughput", "latency"]),
        (["--all"], ["throughput", "latency", "sweep"]),
        (["distributed"], ["distributed"]),
    ],
)
def test_other_scenarios_run_by_name_or_with_all(
    arguments: list[str], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def run(name: str, _: Bench) -> None:
        ran.append(name)

    scenarios = {name: partial(run, name) for name in ("throughput", "latency", "sweep", "distributed")}
    monkeypatch.setattr("benchmarks.__main__.SCENARIOS", scenarios)
    monkeypatch.setattr("benchmarks.__main__.loop_ms", lambda: 1.0)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["benchmarks", *arguments, "--out", str(tmp_path)])
    assert main() == 0
    assert ran == expected


def test_a_failed_scenario_is_named_and_does_not_end_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []

    def run(name: str, _: Bench) -> None:
        ran.append(name)
        if name == "throughput":
            raise TimeoutError("no answer")

    scenarios = {name: partial(run, name) for name in ("throughput", "latency")}
    monkeypatch.setattr("benchmarks.__main__.SCENARIOS", scenarios)
    monkeypatch.setattr("benchmarks.__main__.loop_ms", lambda: 1.0)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["benchmarks", "--out", str(tmp_path)])
    assert main() == 1
    assert ran == ["throughput", "latency"]
    printed = capsys.readouterr().out
    assert "TimeoutError: no answer" in printed
    assert printed.endswith("failed: throughput\n")
