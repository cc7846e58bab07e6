"""Rows per second and core of exported models in float32 and bfloat16, and lost AUC."""

import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import orjson
from rich.table import Column, Table

from benchmarks.bench import SPEC, Bench
from benchmarks.report import Figure, write
from model_training.config.training import Compute, TrainingConfig
from sandbox.world.bid_requests import RequestFactory
from sandbox.world.world import World
from streamer.features import Encoder, FeatureSpec
from streamer.types import F32, I32

KINDS = ("wide_deep", "dcn", "deepfm", "xdeepfm")
FORMATS: tuple[Compute, ...] = ("float32", "bfloat16")
ROWS = (1, 50, 300, 600, 1200, 4096)
_BOUND_ROWS = (300, 600, 1200)
_THREADS_ROWS = (300, 1200)
_THREADS = ((1, 1), (2, 1), (1, 2), (2, 2))
_SIGNATURES = {"score": "factored", "serving_default": "flat"}
_TRAINING_ROWS, _HELD_OUT_ROWS = 200_000, 200_000
_ROUNDS = 5
_REQUEST = 300
Inputs = Mapping[str, I32 | F32]
Value = TypeVar("Value")


class Point(NamedTuple):
    """A measured combination; so many callers call at the same time."""

    kind: str
    compute: Compute
    signature: str
    rows: int
    callers: int = 1


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU time of one call in all threads, and its duration; ms."""

    cpu_ms: float
    wall_ms: float


@dataclass(frozen=True, slots=True)
class Session:
    """Values of `--tensorflow_intra_op_parallelism` and `--tensorflow_inter_op_parallelism`."""

    intra: int
    inter: int


def run(bench: Bench) -> None:
    """Exports and times all models, then trains them on rows of a known truth for their AUC."""
    base = bench.work / "model_rows"
    _in_child(_export_all, base)
    seconds = bench.options.seconds / 4
    points = [Point(k, c, s, n) for k in KINDS for s in _SIGNATURES for n in ROWS for c in FORMATS]
    costs = _in_child(_measure, base, points, Session(1, 1), seconds)
    _print_costs(bench, costs)
    threads: dict[str, Cost] = {}
    calls = [Point(KINDS[0], c, "score", n, callers) for n in _THREADS_ROWS for callers in (1, 2) for c in FORMATS]
    for intra, inter in _THREADS:
        found = _in_child(_measure, base, calls, Session(intra, inter), seconds)
        threads |= {
            f"intra_{intra}_inter_{inter}_{p.compute}_{p.rows}_callers_{p.callers}": c for p, c in found.items()
        }
    lost = {}
    for kind in KINDS:
        bench.console.print(f"training {kind} for its AUC ...")
        lost[kind] = _in_child(_auc, kind, base)
    settings = {"amx_bf16": _has_amx(), "training_rows": _TRAINING_ROWS, "held_out_rows": _HELD_OUT_ROWS}
    write("model_rows", figures_of(costs, threads, lost, bounded=_has_amx()), settings, bench.options.out)


def figures_of(
    costs: Mapping[Point, Cost],
    threads: Mapping[str, Cost],
    aucs: Mapping[str, tuple[float, float]],
    *,
    bounded: bool,
) -> list[Figure]:
    """Rows per second and core, ratios of formats, call times, and lost AUC.

    Args:
        aucs: in float32 and in bfloat16, by kind.
        bounded: whether the CPU should be faster in bfloat16.
    """
    found = []
    for point, cost in costs.items():
        kind, compute, signature, rows, _ = point
        name = f"{kind}_{_SIGNATURES[signature]}_{rows}"
        found.append(Figure(f"{name}_{compute}", rows / cost.cpu_ms, "thousand rows/s/core"))
        if compute == FORMATS[1]:
            ratio = costs[point._replace(compute=FORMATS[0])].cpu_ms / cost.cpu_ms
            has_bound = bounded and kind == KINDS[0] and signature == "score" and rows in _BOUND_ROWS
            limit: tuple[Any, Any] = (">=", 1.5) if has_bound else (None, None)
            found.append(Figure(f"{name}_bfloat16_over_float32", ratio, "ratio", *limit))
    for name, cost in threads.items():
        found += [Figure(f"{name}_cpu", cost.cpu_ms, "ms"), Figure(f"{name}_wall", cost.wall_ms, "ms")]
    for kind, (exact, rounded) in aucs.items():
        found += [
            Figure(f"{kind}_auc_float32", exact, "AUC"),
            Figure(f"{kind}_auc_lost", exact - rounded, "AUC", "<=", 0.0005),
        ]
    return found


def _print_costs(bench: Bench, costs: Mapping[Point, Cost]) -> None:
    columns = [f"{signature} {column}" for signature in _SIGNATURES.values() for column in (*FORMATS, "ratio")]
    table = Table(Column("model", no_wrap=True), "rows", *columns, title="thousand rows per second and core", box=None)
    for kind in KINDS:
        for rows in ROWS:
            cells = []
            for signature in _SIGNATURES:
                exact, rounded = (costs[Point(kind, compute, signature, rows)].cpu_ms for compute in FORMATS)
                cells += [f"{rows / exact:.0f}", f"{rows / rounded:.0f}", f"{exact / rounded:.2f}"]
            table.add_row(kind, f"{rows:,}", *cells)
    bench.console.print(table)


def _in_child(work: Callable[..., Value], *arguments: object) -> Value:
    """Calls a function in a new process: the first session fixes TensorFlow's threads."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def _export_all(base: Path) -> None:
    from model_training.export.saved_model import export  # noqa: PLC0415 - loads TensorFlow
    from model_training.models.build import build_model  # noqa: PLC0415

    spec = FeatureSpec.from_yaml(Path(SPEC))
    for kind in KINDS:
        model = build_model(TrainingConfig.from_yaml(Path(f"configs/models/{kind}.yaml")), spec)
        rng = np.random.default_rng(1)
        for variable in model.trainable_variables:
            # TensorFlow would leave out the additions of biases that are zero.
            if "bias" in variable.name:
                variable.assign(rng.normal(scale=0.01, size=variable.shape).astype(np.float32))
        for compute in FORMATS:
            export(model, spec, base / f"{kind}_{compute}", 1, compute=compute)


def _measure(base: Path, points: Sequence[Point], session: Session, seconds: float) -> dict[Point, Cost]:
    """The best of several rounds for each point; the formats of a point run in turns."""
    versions = dict.fromkeys((point.kind, point.compute) for point in points)
    loaded = {(kind, compute): _load(base / f"{kind}_{compute}" / "1", session) for kind, compute in versions}
    inputs = {rows: _inputs(rows) for rows in dict.fromkeys((_REQUEST, *(point.rows for point in points)))}

    def call(point: Point, rows: int, times: int = 1) -> None:
        signature = loaded[point.kind, point.compute][point.signature]
        arrays = [inputs[rows][point.signature][alias] for alias, _ in signature.inputs]
        for _ in range(times):
            signature.run(arrays, signature.outputs, float("inf"))

    def cost(point: Point, times: int) -> Cost:
        cpu, wall = time.process_time(), time.perf_counter()
        list(pool.map(call, *zip(*[(point, point.rows, times)] * point.callers, strict=True)))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        return Cost(1e3 * cpu / times / point.callers, 1e3 * wall / times)

    found: dict[Point, Cost] = {}
    with ThreadPoolExecutor(max(point.callers for point in points)) as pool:
        for point in points:
            call(point, _REQUEST)
        for key in dict.fromkeys(point._replace(compute=FORMATS[0]) for point in points):
            group = [key._replace(compute=compute) for compute in FORMATS]
            first = next(cost(point, 2) for point in group)
            times = max(2, round(1e3 * seconds / _ROUNDS / len(group) / first.wall_ms))
            rounds = [[cost(point, times) for point in group] for _ in range(_ROUNDS)]
            for point, costs in zip(group, zip(*rounds, strict=True), strict=True):
                found[point] = Cost(min(c.cpu_ms for c in costs), min(c.wall_ms for c in costs))
    return found


def _load(path: Path, session: Session) -> Mapping[str, Any]:
    """The signatures of a version, as the sandbox's model server runs them."""
    from sandbox.model_server.batching import BatchThreads  # noqa: PLC0415 - loads TensorFlow
    from sandbox.model_server.flags import ServerFlags  # noqa: PLC0415
    from sandbox.model_server.monitoring import ServerMetrics  # noqa: PLC0415
    from sandbox.model_server.servable import ServableId, load  # noqa: PLC0415

    flags = ServerFlags(tensorflow_intra_op_parallelism=session.intra, tensorflow_inter_op_parallelism=session.inter)
    metrics = ServerMetrics()
    return load(ServableId("ctr", 1), path, flags, None, BatchThreads(1, metrics), metrics=metrics).signatures


def _inputs(rows: int) -> Mapping[str, Inputs]:
    """Requests of the world with at most 300 candidates each, as both signatures take them."""
    from model_training.export.servable import factored  # noqa: PLC0415 - loads TensorFlow

    encoder, world = Encoder(FeatureSpec.from_yaml(Path(SPEC))), World(seed=7)
    sizes = [min(_REQUEST, rows - start) for start in range(0, rows, _REQUEST)]
    documents = [
        orjson.loads(RequestFactory(world, candidates=size, seed=5 + i, prefix="rows").next().value)
        for i, size in enumerate(sizes)
    ]
    candidates = [candidate for document in documents for candidate in document["candidates"]]
    ids, floats = encoder.encode_log(documents, candidates, sizes)
    firsts = np.cumsum([0, *sizes[:-1]])
    owner = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    score = factored(encoder.layout, (ids[firsts], floats[firsts]), (ids, floats), owner)
    return {"score": score, "serving_default": {"ids": ids, "floats": floats}}


def _auc(kind: str, base: Path) -> tuple[float, float]:
    """AUC in float32 and in bfloat16 of one trained model on held-out rows of a known truth."""
    from benchmarks.quality.logs import world_rows  # noqa: PLC0415 - loads TensorFlow
    from benchmarks.quality.training import array_batches  # noqa: PLC0415
    from model_training.evaluation.metrics import evaluate  # noqa: PLC0415
    from model_training.export.saved_model import export  # noqa: PLC0415
    from model_training.export.servable import Servable  # noqa: PLC0415
    from model_training.models.build import build_model  # noqa: PLC0415
    from model_training.training.single_process import train  # noqa: PLC0415

    rows = world_rows(_TRAINING_ROWS, _HELD_OUT_ROWS)
    config = TrainingConfig.from_yaml(Path(f"configs/models/world/{kind}.yaml"))
    model = build_model(config, rows.spec)
    train(model, rows.spec, array_batches(rows.training, config), config, lambda _: None)
    servable = Servable.load(export(model, rows.spec, base / f"{kind}_trained", 1, compute="bfloat16"))
    held_out = rows.held_out
    exact = servable.float32_scores(held_out.ids, held_out.floats)
    rounded = servable.scores(held_out.ids, held_out.floats)
    return evaluate(held_out.labels, exact).auc, evaluate(held_out.labels, rounded).auc


def _has_amx() -> bool:
    """Whether the CPU multiplies bfloat16 matrices itself."""
    info = Path("/proc/cpuinfo")
    return info.exists() and "amx_bf16" in info.read_text()
