"""The manifests under deploy/kubernetes, as plain values."""

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer.settings import Settings, load_settings
from tests.deploy.compose import ROOT
from tests.toolchains import absent

KUBERNETES = ROOT / "deploy/kubernetes"
OVERLAYS = ("small", "production")
SECRETS = {"kafka-ca", "kafka-login", "streamer-ops"}
"""Secrets that a person creates, as docs/kubernetes.md says."""

Object = dict[str, Any]
"""An object of Kubernetes."""
Objects = list[Object]


def documents(path: Path) -> Objects:
    """The objects of a file; not those that are empty."""
    return [found for found in yaml.load_all(path.read_text(encoding="utf-8"), yaml.CSafeLoader) if found]


def resources(folder: Path) -> Objects:
    """The objects that a kustomization collects, before its patches; generated ConfigMaps without the hash."""
    (kustomization,) = documents(folder / "kustomization.yaml")
    found: dict[tuple[str, str], Object] = {}
    for name in [*kustomization.get("resources", ()), *kustomization.get("components", ())]:
        path = folder / name
        for added in resources(path) if path.is_dir() else documents(path):
            found[added["kind"], added["metadata"]["name"]] = added
    for generated in kustomization.get("configMapGenerator", ()):
        data = {Path(file).name: (folder / file).read_text(encoding="utf-8") for file in generated["files"]}
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generated["name"]}, "data": data}
        found["ConfigMap", generated["name"]] = config
    return list(found.values())


def of_kind(objects: Objects, *kinds: str) -> Objects:
    """The objects of these kinds."""
    return [found for found in objects if found["kind"] in kinds]


def named(objects: Objects, kind: str, name: str) -> Object:
    """The one object of this kind and name; the hash of a generated name does not count."""
    wanted = re.compile(rf"{name}(-[a-z0-9]{{10}})?")
    (found,) = [found for found in of_kind(objects, kind) if wanted.fullmatch(found["metadata"]["name"])]
    return found


def pods(objects: Objects) -> Iterator[tuple[str, Object]]:
    """The name and the pod template of each workload."""
    for found in of_kind(objects, "StatefulSet", "Deployment", "Job"):
        yield found["metadata"]["name"], found["spec"]["template"]


def container(workload: Object) -> Object:
    """The only container of a workload."""
    (found,) = workload["spec"]["template"]["spec"]["containers"]
    return dict(found)


def amount(quantity: str) -> float:
    """A quantity of Kubernetes as a number, in cores or bytes."""
    for unit, factor in {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "m": 1e-3}.items():
        if quantity.endswith(unit):
            return float(quantity.removesuffix(unit)) * factor
    return float(quantity)


def environment(workload: Object) -> dict[str, str]:
    """The variables of a workload's container; values of the pod or of a Secret are the name `streamer-0`."""
    return {found["name"]: found.get("value", "streamer-0") for found in container(workload).get("env", ())}


def settings_of(objects: Objects, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of the scorer's pods, as the scorer reads them; `folder` is a place for the file."""
    scorer = named(objects, "StatefulSet", "streamer")
    for name, value in environment(scorer).items():
        monkeypatch.setenv(name, value)
    file = folder / "streamer.yaml"
    file.write_text(named(objects, "ConfigMap", "streamer-config")["data"]["streamer.yaml"], encoding="utf-8")
    return load_settings(file)


def require_program(name: str) -> str:
    """The path of a program; skips the test, or fails it in CI, if it is not installed."""
    found = shutil.which(name)
    if found is None:
        absent(f"{name} is not on the PATH")
    return found


def is_within(wanted: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether an object with these labels is selected."""
    return wanted.items() <= labels.items()
