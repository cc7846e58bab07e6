"""A newer model version under traffic: the effect of the switch on requests around it."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import grpc

from benchmarks.bench import MODEL, UNHURRIED, Bench
from benchmarks.figures import around_switch, faults
from benchmarks.report import Figure, write
from sandbox.host.loopback import DIRECT
from sandbox.processes.model_server import ModelServerProcess
from sandbox.processes.scorer import ScorerProcess
from sandbox.traffic.run import run_traffic
from sandbox.world.bid_requests import RequestFactory
from streamer.serving.protos import get_model_status_pb2

SHARE = 0.3
OLD, NEW = 1, 2
MARGIN_S = 5.0
_STEP_S = 0.1
_TIMEOUT_S = 180.0
_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"


def run(bench: Bench) -> None:
    """Traffic at 30 % of saturation; version 2, with the same weights, appears in the base path.

    Raises:
        TimeoutError: the server does not load it, or the scorer does not promote it.
    """
    options = bench.options
    rate = SHARE * bench.saturation()
    base, log = _base_path(bench), bench.work / "switch.log"
    topics = bench.topics("switch")
    moments: dict[str, float] = {}
    # The recommended configuration of TensorFlow Serving: it keeps the old version, and loads on a separate thread.
    config = bench.work / "switch.config"
    config.write_text(_config(base))
    server = ModelServerProcess(config=config, flags={"num_load_threads": 1}, log_path=bench.work / "switch_server.log")
    settings = bench.settings(topics, [server.address], UNHURRIED)

    def meanwhile() -> None:
        time.sleep(2 * options.seconds)
        moments["folder"] = time.monotonic()
        (base / "incoming").rename(base / str(NEW))
        _wait(lambda: NEW in _available(server.address), "the model server to load version 2")
        moments["available"] = time.monotonic()
        # Read from the log, because requests to the scorer's port would disturb the measured requests.
        _wait(lambda: _serves(log, NEW), "the scorer to move all users to version 2")
        time.sleep(MARGIN_S + 1.0)

    with server, ScorerProcess(settings, log):
        bench.console.print(f"a switch at {rate:.0f} requests/s ({SHARE:.0%} of saturation) ...")
        warm_up = RequestFactory(bench.world, candidates=options.candidates, seed=8, prefix="warm-up")
        run_traffic(bench.bootstrap, topics, warm_up, rate=rate, seconds=options.seconds)
        factory = RequestFactory(bench.world, candidates=options.candidates, seed=9, prefix="switch")
        report = run_traffic(bench.bootstrap, topics, factory, rate=rate, seconds=0.0, meanwhile=meanwhile)
    folder, available = moments["folder"], moments["available"]
    found = around_switch(report.times, NEW, folder_at=folder, available_at=available, margin_s=MARGIN_S)
    figures = [
        Figure("scoring_p99_before", found.before, "ms"),
        Figure("scoring_p99_loading", found.loading, "ms"),
        Figure("scoring_p99_around", found.around, "ms"),
        Figure("around_over_before", found.around / found.before, "ratio", "<=", 1.5),
        Figure("around_without_loading_over_before", found.around_loaded / found.before, "ratio"),
        Figure("loading", available - folder, "s"),
        Figure("available_to_first_answer", found.first_new - available, "s"),
        Figure("ramp", found.ramp_s, "s"),
        Figure("answers_before", found.answers[0], "answers"),
        Figure("answers_around", found.answers[1], "answers"),
        Figure("faults", faults(report), "requests", "<=", 0),
    ]
    settings = {
        "model_server": server.version,
        "candidates": options.candidates,
        "rate": round(rate, 1),
        "margin_s": MARGIN_S,
        "versions": report.models,
        "overridden": dict(UNHURRIED),
    }
    write("switch", figures, settings, options.out)


def _base_path(bench: Bench) -> Path:
    """A base path with version 1, and the folder of version 2 under a name that no server reads."""
    base = (bench.work / "switch" / MODEL).absolute()
    for name in (str(OLD), "incoming"):
        shutil.copytree(bench.model / "1", base / name)
    return base


def _config(base: Path) -> str:
    return (
        f'model_config_list {{ config {{ name: "{MODEL}" base_path: "{base}" model_platform: "tensorflow" '
        "model_version_policy { latest { num_versions: 3 } } } }\n"
    )


def _available(address: str) -> set[int]:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = MODEL
    with grpc.insecure_channel(address, DIRECT) as channel:
        ask = channel.unary_unary(
            _STATUS,
            request_serializer=get_model_status_pb2.GetModelStatusRequest.SerializeToString,
            response_deserializer=get_model_status_pb2.GetModelStatusResponse.FromString,
        )
        reply = ask(request, timeout=_TIMEOUT_S, wait_for_ready=True)
    ready = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    return {status.version for status in reply.model_version_status if status.state == ready}


def _serves(log: Path, version: int) -> bool:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return any('"model serves"' in line and f'"{MODEL}/{version}"' in line for line in lines)


def _wait(done: Callable[[], bool], event: str) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {_TIMEOUT_S:.0f} s for {event}")
        time.sleep(_STEP_S)
