"""Training with parameter servers: speed and AUC by mode, a straggler, bytes per server."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING

import yaml

from benchmarks.bench import MODEL_CONFIG, SPEC, Bench
from benchmarks.report import Figure, write
from benchmarks.training_runs import train_distributed
from model_training.config.training import TrainingConfig
from model_training.distributed.parameter_servers.placement import greedy, imbalance, loads, round_robin
from model_training.runtime import load_tensorflow
from streamer.features import FeatureSpec

if TYPE_CHECKING:
    from model_training.data.training_data import TrainingData
    from model_training.models.model import Model

_REQUESTS, _SHOWN, _BATCH = 15_000, 4, 256
_PASSES = 2
_SERVERS, _COMPUTING, _TIMES = 2, 3, 5
_SEEDS = 5
_SERVER_COUNTS = (2, 4)
_PLACEMENT_BOUND, _KEPT_BOUND = 1.1, 0.8


@dataclass(frozen=True, slots=True)
class Mode:
    """How processes train together; see `model_training.config.training.DistributedConfig`."""

    mode: str
    backup_workers: int = 0

    @property
    def aggregated(self) -> int:
        """Number of batches in a step."""
        return _COMPUTING - self.backup_workers if self.mode == "sync" else 1


MODES: Mapping[str, Mode] = {"sync": Mode("sync"), "backup": Mode("sync", 1), "async": Mode("async")}
STRAGGLING = ("sync", "backup")
"""Modes that also run with a straggler: without and with a backup worker."""


@dataclass(frozen=True, slots=True)
class Trained:
    """One run: rates of applied examples since all workers take part; AUC on later examples."""

    steps_per_second: float
    examples_per_second: float
    auc: float
    running_share: float = math.nan


def run(bench: Bench) -> None:
    """Single processes with each mode's step size; then all runs in turns, one seed per round."""
    load_tensorflow()
    from model_training.data.training_data import split_log  # noqa: PLC0415 - loads TensorFlow, needed only for this scenario

    spec = FeatureSpec.from_yaml(Path(SPEC))
    work = bench.work / "distributed"
    work.mkdir()
    log = bench.world.draw_log(work / "clicks.jsonl", _REQUESTS, _SHOWN)
    data = split_log(log.path, work / "records", spec)
    bench.console.print(f"single processes, {_SEEDS} of each step size ...")
    single = {name: [_single(data, spec, mode, seed) for seed in range(1, _SEEDS + 1)] for name, mode in MODES.items()}
    turns = [(name, False) for name in MODES] + [(name, True) for name in STRAGGLING]
    runs: dict[str, list[Trained]] = {_name(*turn): [] for turn in turns}
    for seed in range(1, bench.options.rounds + 1):
        for name, straggler in turns:
            bench.console.print(f"round {seed}: {_name(name, straggler)} ...")
            done = _distributed(data, spec, MODES[name], seed=seed, straggler=straggler, work=work)
            runs[_name(name, straggler)].append(done)
    settings = {
        "examples": data.manifest.examples,
        "judged_by": data.holdout.examples,
        "batch_size": _BATCH,
        "passes": _PASSES,
        "servers": _SERVERS,
        "computing": _COMPUTING,
        "straggler_times": _TIMES,
        "rounds": bench.options.rounds,
        "single_process_seeds": _SEEDS,
        "truth_auc": round(log.bayes_auc, 4),
    }
    figures = [*figures_of(runs, single), *placement_figures(_placements(spec))]
    write("distributed", figures, settings, bench.options.out)


def figures_of(runs: Mapping[str, Sequence[Trained]], single: Mapping[str, Sequence[Trained]]) -> list[Figure]:
    """Figures of the modes and of single processes; then the speed kept with a straggler.

    Args:
        runs: one run per round, by the names in `MODES`, and by names with `_straggler` appended.
        single: runs of single processes by the names in `MODES`, one for each of `_SEEDS` seeds.
    """
    figures = []
    for name in MODES:
        figures += _of_mode(name, runs[name])
        auc, alone = fmean(r.auc for r in runs[name]), fmean(r.auc for r in single[name])
        noise = auc_noise([r.auc for r in single[name]], [r.auc for r in runs[name]])
        figures += [
            Figure(f"{name}_single_process_auc", alone, "AUC"),
            Figure(f"{name}_auc_difference", abs(auc - alone), "AUC", "<=", noise),
            Figure(f"{name}_single_process_examples", _median_rate(single[name]), "examples/s"),
        ]
    for name in STRAGGLING:
        slowed = runs[_name(name, straggler=True)]
        figures += _of_mode(_name(name, straggler=True), slowed)
        kept = _median_rate(slowed) / _median_rate(runs[name])
        bound = _KEPT_BOUND if MODES[name].backup_workers else None
        figures.append(Figure(f"{name}_kept_with_straggler", kept, "ratio", ">=", bound))
    shares = [r.running_share for name in STRAGGLING for r in runs[_name(name, straggler=True)]]
    figures.append(Figure("straggler_runs", fmean(shares), "share of the time"))
    return figures


def auc_noise(single: Sequence[float], runs: Sequence[float]) -> float:
    """The difference of the means that chance explains with 95 % confidence.

    Student's interval for the difference of two means with one variance, which is estimated from both.
    """
    from scipy.stats import t  # noqa: PLC0415 - a second to load, needed only for this scenario

    freedom = len(single) + len(runs) - 2
    squares = sum((auc - fmean(group)) ** 2 for group in (single, runs) for auc in group)
    deviation = math.sqrt(squares / freedom * (1 / len(single) + 1 / len(runs)))
    return float(t.ppf(0.975, freedom)) * deviation


def placement_figures(placements: Mapping[int, Mapping[str, float]]) -> list[Figure]:
    """Bytes of the fullest server over the mean, by number of servers and placement."""
    return [
        Figure(
            f"bytes_{servers}_servers_{way}",
            ratio,
            "fullest / mean",
            "<=",
            _PLACEMENT_BOUND if way == "greedy" else None,
        )
        for servers, ways in placements.items()
        for way, ratio in ways.items()
    ]


def _of_mode(name: str, runs: Sequence[Trained]) -> list[Figure]:
    return [
        Figure(f"{name}_examples", _median_rate(runs), "examples/s"),
        Figure(f"{name}_steps", median(r.steps_per_second for r in runs), "steps/s"),
        Figure(f"{name}_auc", fmean(r.auc for r in runs), "AUC"),
    ]


def _median_rate(runs: Sequence[Trained]) -> float:
    return median(r.examples_per_second for r in runs)


def _name(mode: str, straggler: bool) -> str:
    return f"{mode}_straggler" if straggler else mode


def _placements(spec: FeatureSpec) -> dict[int, dict[str, float]]:
    from model_training.distributed.parameter_servers.variables import bytes_by_variable  # noqa: PLC0415 - loads TensorFlow

    config = TrainingConfig.from_yaml(Path(MODEL_CONFIG))
    cut, whole = bytes_by_variable(config, spec), bytes_by_variable(config, spec, shards=1)
    ways = {"greedy": (greedy, cut), "in_turn": (round_robin, cut), "whole_in_turn": (round_robin, whole)}
    return {
        n: {way: imbalance(loads(sizes, place(sizes, n), n)) for way, (place, sizes) in ways.items()}
        for n in _SERVER_COUNTS
    }


def _distributed(
    data: "TrainingData", spec: FeatureSpec, mode: Mode, *, seed: int, straggler: bool, work: Path
) -> Trained:
    from model_training.distributed.result import trained_model  # noqa: PLC0415 - loads TensorFlow

    name = f"{mode.mode}-{mode.backup_workers}-{seed}{'-straggler' if straggler else ''}"
    path, checkpoints = work / f"{name}.yaml", work / name
    content = yaml.safe_load(Path(MODEL_CONFIG).read_text(encoding="utf-8"))
    content |= {"spec": str(Path(SPEC).resolve()), "batch_size": _BATCH, "epochs": _PASSES, "seed": seed}
    content["distributed"] = {"mode": mode.mode, "backup_workers": mode.backup_workers}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    heard = train_distributed(
        ["--config", str(path), "--records", str(data.directory), "--checkpoints", str(checkpoints)],
        servers=_SERVERS,
        computing=_COMPUTING,
        straggler_times=_TIMES if straggler else None,
        log=work / f"{name}.log",
    )
    auc = _auc(trained_model(checkpoints, TrainingConfig.from_yaml(path), spec), spec, data)
    steps = heard.steps_per_second
    return Trained(steps, steps * mode.aggregated * _BATCH, auc, heard.running_share)


def _single(data: "TrainingData", spec: FeatureSpec, mode: Mode, seed: int) -> Trained:
    from model_training.training.single_process import train_records  # noqa: PLC0415 - loads TensorFlow

    config = TrainingConfig.from_yaml(Path(MODEL_CONFIG))
    config = config.model_copy(update={"batch_size": mode.aggregated * _BATCH, "epochs": _PASSES, "seed": seed})
    model, result = train_records(data.directory, data.manifest, spec, config)
    return Trained(result.steps / result.seconds, result.examples_per_second, _auc(model, spec, data))


def _auc(model: "Model", spec: FeatureSpec, data: "TrainingData") -> float:
    from model_training.evaluation.metrics import evaluate  # noqa: PLC0415 - loads scikit-learn
    from model_training.training.prediction import predictor  # noqa: PLC0415 - loads TensorFlow

    labels, scores, _ = data.holdout.scored({"model": predictor(model, spec)})
    return evaluate(labels, scores["model"]).auc
