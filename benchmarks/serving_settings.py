"""The cost of a model server's settings, each beside its alternative, without Kafka."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from statistics import median

import psutil

from benchmarks.bench import MODEL, Bench
from benchmarks.report import Figure, write
from sandbox.processes.model_server import ONE_THREAD_PER_CALL, ModelServerProcess
from sandbox.processes.server_program import server_program
from sandbox.world.bid_requests import RequestFactory
from streamer.commands.live_model import connected, served
from streamer.serving.predictor import Predictor
from streamer.settings import Settings
from streamer.types import BatchInputs, BidRequest, ModelVersion

_REQUESTS = 64
_TIMEOUT_S = 60.0
_CALLERS = (1, 3)
_VERSIONS = 3
_P99 = 0.99
_STEP_S = 0.05
Rounds = dict[str, list[float]]
"""One value for each round, by figure; milliseconds or megabytes."""


def run(bench: Bench) -> None:
    """Runs all comparisons; a figure is the median of its rounds, which are in the settings."""
    rounds = asyncio.run(_run(bench))
    settings = {
        "model_server": server_program().version,
        "candidates": bench.options.candidates,
        "seconds": _seconds(bench),
        "rounds": {name: [round(value, 3) for value in values] for name, values in rounds.items()},
    }
    write("serving_settings", figures_of(rounds), settings, bench.options.out)


def figures_of(rounds: Mapping[str, Sequence[float]]) -> list[Figure]:
    """The medians of the rounds, and the ratios of compared settings."""
    middle = {name: median(values) for name, values in rounds.items()}
    compared = {
        **{f"intra_op_all_over_1_callers_{n}": (f"intra_op_all_{n}", f"intra_op_1_{n}") for n in _CALLERS},
        "tensor_content_over_float_val": ("tensor_content_1", "float_val_1"),
        "first_call_without_over_with_warm_up": ("first_call_without_warm_up", "first_call_with_warm_up"),
        **{f"load_threads_{n}_p99_loading_over_before": (f"p99_loading_{n}", f"p99_before_{n}") for n in (0, 1)},
    }
    return [
        *(Figure(name, value, "MB" if name.startswith("resident") else "ms") for name, value in middle.items()),
        *(Figure(name, middle[one] / middle[other], "ratio") for name, (one, other) in compared.items()),
        Figure(
            "resident_per_version", (middle[f"resident_{_VERSIONS}"] - middle["resident_1"]) / (_VERSIONS - 1), "MB"
        ),
    ]


class Caller:
    """Scores encoded requests on one server, as a scorer does."""

    def __init__(self, predictor: Predictor, version: ModelVersion, requests: Sequence[BatchInputs]) -> None:
        self._predictor, self._version, self._requests = predictor, version, requests
        self._turn = 0

    async def call(self) -> float:
        """Scores the next request; returns milliseconds."""
        self._turn += 1
        start = time.perf_counter()
        await self._predictor.score(self._version, self._requests[self._turn % len(self._requests)], _TIMEOUT_S)
        return (time.perf_counter() - start) * 1e3

    async def calls(self, callers: int, done: Callable[[], bool]) -> list[float]:
        """Milliseconds of each call of so many concurrent callers, sorted."""

        async def loop() -> list[float]:
            found = [await self.call()]
            while not done():
                found.append(await self.call())
            return found

        return sorted(ms for found in await asyncio.gather(*(loop() for _ in range(callers))) for ms in found)

    async def calls_for(self, callers: int, seconds: float) -> list[float]:
        end = time.monotonic() + seconds
        return await self.calls(callers, lambda: time.monotonic() > end)

    async def loaded(self, version: int) -> None:
        """Returns when the version is AVAILABLE."""
        while True:
            found = await self._predictor.control.available(self._version.name)
            if version in found.somewhere:
                return
            await asyncio.sleep(_STEP_S)


async def _run(bench: Bench) -> Rounds:
    raw = {**ONE_THREAD_PER_CALL, "enable_serialization_as_tensor_content": True}
    all_cores = {"tensorflow_intra_op_parallelism": os.cpu_count()}
    rounds = await _in_turns(bench, {"intra_op_1": ONE_THREAD_PER_CALL, "intra_op_all": all_cores}, _CALLERS)
    rounds |= await _in_turns(bench, {"float_val": ONE_THREAD_PER_CALL, "tensor_content": raw}, (1,))
    for turn in range(bench.options.rounds):
        bench.console.print(f"warm-up, load threads, memory: round {turn + 1} of {bench.options.rounds}")
        for name, warm in (("with", True), ("without", False)):
            ms = await _first_call(bench, {"enable_model_warmup": warm})
            rounds.setdefault(f"first_call_{name}_warm_up", []).append(ms)
        for threads in (0, 1):
            before, loading = await _while_loading(bench, f"load-{turn}-{threads}", {"num_load_threads": threads})
            rounds.setdefault(f"p99_before_{threads}", []).append(before)
            rounds.setdefault(f"p99_loading_{threads}", []).append(loading)
        for versions in range(1, _VERSIONS + 1):
            rounds.setdefault(f"resident_{versions}", []).append(
                await _resident(bench, f"memory-{turn}-{versions}", versions)
            )
    return rounds


async def _in_turns(bench: Bench, settings: Mapping[str, Mapping[str, object]], callers: Sequence[int]) -> Rounds:
    """Median milliseconds of a call by setting and number of callers.

    All servers run, and one is called.
    """
    rounds: Rounds = {}
    with ExitStack() as stack:
        servers = {name: stack.enter_context(_server(bench, bench.model, flags)) for name, flags in settings.items()}
        for turn in range(bench.options.rounds):
            bench.console.print(f"{', '.join(settings)}: round {turn + 1} of {bench.options.rounds}")
            for name, server in servers.items():
                async with _caller(bench, server) as caller:
                    for n in callers:
                        ms = median(await caller.calls_for(n, _seconds(bench)))
                        rounds.setdefault(f"{name}_{n}", []).append(ms)
    return rounds


async def _first_call(bench: Bench, flags: Mapping[str, object]) -> float:
    """Milliseconds of the first scoring call of a new server."""
    with _server(bench, bench.model, {**ONE_THREAD_PER_CALL, **flags}) as server:
        async with _caller(bench, server) as caller:
            return await caller.call()


async def _while_loading(bench: Bench, name: str, flags: Mapping[str, object]) -> tuple[float, float]:
    """p99 of the calls of one caller before a version arrives, and while it is loaded."""
    base = _base(bench, name, 1)
    arriving = shutil.copytree(bench.model / "1", base.with_suffix(".arriving"))
    with _server(bench, base, {**ONE_THREAD_PER_CALL, **flags, "file_system_poll_wait_seconds": 1}) as server:
        async with _caller(bench, server) as caller:
            before = await caller.calls_for(1, 2 * _seconds(bench))
            arriving.rename(base / "2")
            load = asyncio.create_task(caller.loaded(2))
            loading = await caller.calls(1, load.done)
            await load
    return before[int(_P99 * len(before))], loading[int(_P99 * len(loading))]


async def _resident(bench: Bench, name: str, versions: int) -> float:
    """Resident megabytes of a server with so many loaded versions, after calls."""
    base = _base(bench, name, versions)
    with _server(bench, base, ONE_THREAD_PER_CALL) as server:
        async with _caller(bench, server) as caller:
            for version in range(1, versions + 1):
                await caller.loaded(version)
            await caller.calls_for(1, 1.0)
        return float(psutil.Process(server.pid).memory_info().rss) / 1e6


def _base(bench: Bench, name: str, versions: int) -> Path:
    """A base path with copies of the model as versions 1 to `versions`."""
    base = (bench.work / name / MODEL).absolute()
    for version in range(1, versions + 1):
        shutil.copytree(bench.model / "1", base / str(version))
    return base


def _server(bench: Bench, base: Path, flags: Mapping[str, object]) -> ModelServerProcess:
    """A server of all versions in the base path, not started yet."""
    bench.work.mkdir(parents=True, exist_ok=True)
    config = bench.work / f"{base.parent.name}.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "{MODEL}" base_path: "{base.absolute()}" model_platform: "tensorflow" '
        "model_version_policy { all {} } } }\n"
    )
    return ModelServerProcess(config=config, flags=flags, log_path=bench.work / "serving_settings.log")


@asynccontextmanager
async def _caller(bench: Bench, server: ModelServerProcess) -> AsyncIterator[Caller]:
    """A connected caller of the newest version."""
    settings = Settings.model_validate({"predictor": {"addresses": [server.address], "models": [MODEL]}})
    factory = RequestFactory(bench.world, candidates=bench.options.candidates, seed=5, prefix="call")
    async with connected(settings) as predictor:
        serving, _ = await served(predictor.control, settings, MODEL)
        decoded = [serving.codec.decode(factory.next().value, ()) for _ in range(_REQUESTS)]
        encoded = [serving.encoder.encode(request) for request in decoded if isinstance(request, BidRequest)]
        yield Caller(predictor, serving.version, [BatchInputs.whole(request) for request in encoded])


def _seconds(bench: Bench) -> float:
    """Duration of one measurement."""
    return bench.options.seconds / 4
