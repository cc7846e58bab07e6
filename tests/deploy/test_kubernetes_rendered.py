"""The manifests as kustomize renders them, against the schemas of Kubernetes, KEDA and the Prometheus operator."""

import importlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.deploy.compose import ROOT
from tests.deploy.kubernetes import (
    KUBERNETES,
    OVERLAYS,
    Object,
    Objects,
    amount,
    container,
    documents,
    named,
    of_kind,
    require_program,
    settings_of,
)
from tests.deploy.kubernetes_review import complaints

pytestmark = pytest.mark.slow

KUSTOMIZE = "v5.8.2"
OPTIONAL = ("ads-by-id", "tracing")
"""Components that no overlay has."""
OLDEST, NEWEST = "1.31", "1.37"
CRDS = ROOT / "tests/deploy/crds"
BUILD = ROOT / "build/kubernetes"
MB = 1e6

Render = Callable[[Path], Objects]


def run(command: Sequence[str | Path], folder: Path, given: str = "", **variables: str) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **variables},
        input=given,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def render() -> Render:
    """Renders the kustomization in a folder; builds kustomize, once, in the folder `build`."""
    binary = BUILD / KUSTOMIZE / "kustomize"
    if not binary.is_file():
        go = require_program("go")
        binary.parent.mkdir(parents=True, exist_ok=True)
        run([go, "install", f"sigs.k8s.io/kustomize/kustomize/v5@{KUSTOMIZE}"], BUILD, GOBIN=str(binary.parent))

    def rendered(folder: Path) -> Objects:
        return list(yaml.load_all(run([binary, "build", folder], ROOT), yaml.CSafeLoader))

    return rendered


@pytest.fixture(scope="session")
def validate_custom() -> Callable[[Objects], list[str]]:
    """Returns a line for each fault of custom resources; installs the schemas, once, in the folder `build`."""
    npm, node = require_program("npm"), require_program("node")
    home = BUILD / "crds"
    lock = (CRDS / "package-lock.json").read_bytes()
    installed = home / "installed-lock.json"
    if not installed.is_file() or installed.read_bytes() != lock:
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(CRDS, home)
        run([npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], home)
        installed.write_bytes(lock)
    shutil.copy(CRDS / "validate.mjs", home)

    def faults(objects: Objects) -> list[str]:
        return run([node, "validate.mjs"], home, json.dumps(objects)).splitlines()

    return faults


def is_custom(found: Object) -> bool:
    return found["kind"] in {"ScaledObject", "ServiceMonitor", "PrometheusRule"}


@pytest.fixture(params=[*OVERLAYS, *OPTIONAL])
def objects(request: pytest.FixtureRequest, render: Render, tmp_path: Path) -> Objects:
    """An overlay; or production with an optional component, as the page describes it."""
    if request.param in OVERLAYS:
        return render(KUBERNETES / "overlays" / request.param)
    production, component = (
        os.path.relpath(KUBERNETES / name, tmp_path) for name in ("overlays/production", f"components/{request.param}")
    )
    (tmp_path / "kustomization.yaml").write_text(json.dumps({"resources": [production], "components": [component]}))
    return render(tmp_path)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_accepts_the_objects(objects: Objects, version: str) -> None:
    """Against the strict schemas, which reject unknown fields."""
    validate: Any = importlib.import_module("kubernetes_validate").validate
    builtin = [found for found in objects if not is_custom(found)]
    assert len(builtin) > 10
    for found in builtin:
        assert validate(found, version, strict=True) == version


def test_a_wrong_object_is_rejected(render: Render) -> None:
    kubernetes_validate: Any = importlib.import_module("kubernetes_validate")
    scorer = named(render(KUBERNETES / "base"), "StatefulSet", "streamer")
    for field, value in (("replica", 1), ("replicas", "1")):
        broken = {**scorer, "spec": {**scorer["spec"], field: value}}
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(broken, NEWEST, strict=True)


def test_the_operators_accept_their_objects(render: Render, validate_custom: Callable[[Objects], list[str]]) -> None:
    custom = [found for found in render(KUBERNETES / "overlays/production") if is_custom(found)]
    assert {found["kind"] for found in custom} == {"ScaledObject", "ServiceMonitor", "PrometheusRule"}
    assert validate_custom(custom) == []
    scaler = named(custom, "ScaledObject", "streamer")
    broken = [
        {**scaler, "spec": {**scaler["spec"], "minReplicas": 3}},
        {**scaler, "spec": {**scaler["spec"], "minReplicaCount": "3"}},
    ]
    assert validate_custom(broken) == [
        "ScaledObject streamer: /spec/minReplicas: unknown field",
        "ScaledObject streamer: data/spec/minReplicaCount must be integer",
    ]


def test_a_reviewer_finds_nothing(objects: Objects) -> None:
    assert complaints(objects) == []


def test_settings_that_change_are_a_rolling_update(objects: Objects) -> None:
    """The name of the settings' ConfigMap has a hash; that of the model server's files has none."""
    names = {found["metadata"]["name"] for found in of_kind(objects, "ConfigMap")}
    assert [name for name in names if re.fullmatch(r"streamer-config-[a-z0-9]{10}", name)]
    assert "model-server-config" in names


def test_memory_suffices_for_what_was_measured(
    objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Supervisor 80 MB, worker 145, standby 120, one more start 90; 200 for hostile requests of each worker."""
    scorer = named(objects, "StatefulSet", "streamer")
    supervisor = settings_of(objects, tmp_path, monkeypatch).supervisor
    needed = (80 + (145 + 200) * supervisor.active + 120 * supervisor.standby + 90) * MB
    volumes = [volume["emptyDir"] for volume in scorer["spec"]["template"]["spec"]["volumes"] if "emptyDir" in volume]
    needed += sum(amount(volume["sizeLimit"]) for volume in volumes if volume.get("medium") == "Memory")
    assert amount(container(scorer)["resources"]["limits"]["memory"]) >= needed


@pytest.mark.parametrize("objects", ["production", "ads-by-id"], indirect=True)
def test_cores_suffice_for_the_workers(objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = named(objects, "StatefulSet", "streamer")
    active = settings_of(objects, tmp_path, monkeypatch).supervisor.active
    assert amount(container(scorer)["resources"]["requests"]["cpu"]) == active


def test_the_number_of_pods_has_one_owner(objects: Objects) -> None:
    """A number in the manifest would undo what KEDA decided, at each `kubectl apply`."""
    is_scaled = bool(of_kind(objects, "ScaledObject"))
    assert ("replicas" in named(objects, "StatefulSet", "streamer")["spec"]) is not is_scaled


def test_zones_share_the_production_pods(render: Render) -> None:
    production = render(KUBERNETES / "overlays/production")
    spreads = named(production, "StatefulSet", "streamer")["spec"]["template"]["spec"]["topologySpreadConstraints"]
    found = {spread["topologyKey"]: spread["whenUnsatisfiable"] for spread in spreads}
    assert len(found) == len(spreads)
    assert found == {"topology.kubernetes.io/zone": "DoNotSchedule", "kubernetes.io/hostname": "ScheduleAnyway"}


@pytest.mark.parametrize("objects", ["ads-by-id"], indirect=True)
def test_two_tables_of_ads_fit_their_volume(objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ads = settings_of(objects, tmp_path, monkeypatch).ads
    spec = named(objects, "StatefulSet", "streamer")["spec"]["template"]["spec"]
    (mount,) = [
        mount for mount in container({"spec": {"template": {"spec": spec}}})["volumeMounts"] if mount["name"] == "ads"
    ]
    (volume,) = [volume["emptyDir"] for volume in spec["volumes"] if volume["name"] == "ads"]
    assert ads.directory.is_relative_to(mount["mountPath"])
    assert 2 * ads.max_bytes < amount(volume["sizeLimit"]), "of two feature specs, while a version takes over"
    topics = container(named(objects, "Job", "topics"))["env"]
    assert {"name": "STREAMER_ADS__TOPIC", "value": ads.topic} in topics


@pytest.mark.parametrize("objects", ["tracing"], indirect=True)
def test_the_policy_lets_spans_reach_the_collector_and_nothing_else(
    objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracing = settings_of(objects, tmp_path, monkeypatch).tracing
    assert tracing.enabled
    collector = urlsplit(str(tracing.endpoint))
    assert collector.hostname is not None
    _, namespace = collector.hostname.split(".")
    before = named(documents(KUBERNETES / "base/scorer/network-policy.yaml"), "NetworkPolicy", "streamer")
    *others, added = named(objects, "NetworkPolicy", "streamer")["spec"]["egress"]
    assert others == before["spec"]["egress"]
    assert added == {
        "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}],
        "ports": [{"protocol": "TCP", "port": collector.port}],
    }
