"""The other stream processors: exact versions, messages, verdicts, and the scores of each."""

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from xml.etree import ElementTree as ET

import grimp
import numpy as np
import pytest
import yaml
from rich.console import Console

from benchmarks.bench import SPEC, Bench, Options
from benchmarks.peers import environments
from benchmarks.peers.catalogue import KAFKA_STREAMS, PEERS, PYTHON_PEERS, Peer
from benchmarks.peers.scenario import check_scores, figures_of, installed, process
from benchmarks.programs import Run
from sandbox.broker.kafka import KafkaBroker
from streamer.serving.protos import predict_pb2, tensor_pb2, types_pb2

HOME = Path(environments.__file__).parent


@cache
def _needed_by(package: str) -> frozenset[str]:
    """The distributions that the modules of a package import, directly or through other modules of this project."""
    graph = grimp.build_graph("streamer", include_external_packages=True)
    modules = {package, *graph.find_descendants(package)}
    modules |= {found for module in modules for found in graph.find_upstream_modules(module)}
    external = {name for name in modules if graph.is_module_squashed(name)} - sys.stdlib_module_names
    external -= {"ctr_streamer_native"}  # optional, and it has no part in `encode_log`
    distributions = packages_distributions()
    return frozenset(distributions[name][0] for name in external)


@pytest.mark.parametrize("peer", PYTHON_PEERS, ids=lambda peer: peer.name)
def test_the_packages_of_a_peer_have_exact_versions(peer: Peer) -> None:
    lines = environments.requirements_of(peer).read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    names = {line.partition("==")[0].lower() for line in lines}
    assert len(names) == len(lines)
    # What `scoring` imports; the next set is what `streamer.features` imports.
    assert {"grpcio", "grpcio-tools", "numpy", "orjson", "protobuf"} <= names
    assert {name.lower() for name in _needed_by("streamer.features")} <= {name.replace("_", "-") for name in names}


def test_the_libraries_and_plugins_of_the_java_peer_have_exact_versions() -> None:
    pom = ET.parse(HOME / KAFKA_STREAMS.name / "pom.xml")  # noqa: S314  a file of this repository
    xmlns = {"m": "http://maven.apache.org/POM/4.0.0"}
    versions = {name.tag.rpartition("}")[2]: name.text for name in pom.findall("m:properties/*", xmlns)}
    for kind in ("dependency", "plugin", "extension"):
        found = pom.findall(f".//m:{kind}", xmlns)
        assert found
        for one in found:
            version = one.findtext("m:version", "", xmlns)
            assert re.fullmatch(r"[\d.]+", versions.get(version.strip("${}"), version) or "")


def test_the_messages_of_the_peers_have_the_numbers_of_the_real_ones() -> None:
    text = (HOME / "protos" / "prediction_service.proto").read_text()
    real = {
        "PredictRequest": predict_pb2.PredictRequest.DESCRIPTOR,
        "PredictResponse": predict_pb2.PredictResponse.DESCRIPTOR,
        "ModelSpec": predict_pb2.PredictRequest().model_spec.DESCRIPTOR,
        "TensorProto": tensor_pb2.TensorProto.DESCRIPTOR,
    }
    for message, descriptor in real.items():
        (body,) = re.findall(rf"message {message} {{(.*?)}}", text, re.DOTALL)
        fields = re.findall(r"(\w+) = (\d+);", body)
        assert fields
        assert all(descriptor.fields_by_name[name].number == int(number) for name, number in fields)
    for name, number in re.findall(r"(DT_\w+) = (\d+);", text):
        assert types_pb2.DataType.Value(name) == int(number)


def test_a_peer_that_cannot_be_installed_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(environments.PeerError, match=r"^Kafka Streams .* cannot be installed: no `mvn` on PATH$"):
        environments.command_of(KAFKA_STREAMS, tmp_path)
    with Bench(Options(out=tmp_path), Console(quiet=True)) as bench:
        commands, missing = installed(bench, [KAFKA_STREAMS], tmp_path)
    assert commands == {}
    assert list(missing) == ["kafka_streams"]


def _run(rate: float, cpu_ms: float, ctr: float = 0.5) -> Run:
    return Run(requests_per_second=rate, cpu_ms=cpu_ms, resident_mb=100.0, scores={"r-1": np.array([ctr])})


def test_the_scorer_is_compared_with_the_best_peer_of_each_figure() -> None:
    runs = {
        "scorer": [_run(400, 1.0), _run(200, 2.0)],  # the machine is half as fast in the second round
        "floor": [_run(400, 1.0), _run(200, 2.0)],
        "naive": [_run(100, 9.0), _run(50, 18.0)],
        "faust": [_run(250, 5.0), _run(125, 10.0)],
        "bytewax": [_run(200, 3.5), _run(100, 7.0)],
    }
    figures = {figure.name: figure for figure in figures_of(runs)}
    assert figures["best_peer_cpu_over_scorer"].value == pytest.approx(3.5)
    assert figures["best_peer_cpu_over_scorer"].holds
    assert figures["scorer_over_best_peer"].value == pytest.approx(1.6)
    assert figures["scorer_over_best_peer"].holds
    assert figures["naive_cpu_over_scorer"].value == pytest.approx(9.0)
    assert figures["floor_cpu_over_scorer"].value == pytest.approx(1.0)
    slower = {figure.name: figure.holds for figure in figures_of(runs | {"faust": [_run(300, 2.5)] * 2})}
    assert (slower["best_peer_cpu_over_scorer"], slower["scorer_over_best_peer"]) == (False, False)


def test_a_peer_with_another_score_is_named() -> None:
    check_scores({"scorer": _run(1, 1), "quix": _run(1, 1, 0.5000005)})
    with pytest.raises(AssertionError, match="quix: r-1"):
        check_scores({"scorer": _run(1, 1), "quix": _run(1, 1, 0.500002)})


@pytest.fixture(scope="module")
def bench(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Small requests of the reference spec, and an untrained model of it."""
    out = tmp_path_factory.mktemp("peers")
    config = {"spec": str(Path(SPEC).absolute()), "model": {"kind": "wide_deep", "embedding_stddev": 1.0}}
    (out / "model.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "model_training", "init", "--config", str(out / "model.yaml")]
    subprocess.run([*command, "--export-to", str(out / "models" / "ctr")], check=True, timeout=600)
    with Bench(Options(candidates=20, out=out), Console(quiet=True), kafka) as bench:
        yield bench


@pytest.mark.slow  # the first run installs the peers
@pytest.mark.kafka
def test_every_peer_gives_the_scorers_scores(bench: Bench) -> None:
    commands, missing = installed(bench)
    assert commands.keys() | missing.keys() == {peer.name for peer in PEERS}
    runs = {name: process(bench, name, commands.get(name, ()), 0, requests=32) for name in ("scorer", *commands)}
    check_scores(runs)
    assert all(len(run.scores) == 32 for run in runs.values())
    assert np.ptp(np.concatenate(list(runs["scorer"].scores.values()))) > 0.01
