"""A release: one version everywhere, licences, and the files of `make release`."""

import hashlib
import json
import re
import shutil
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.deploy.compose import ROOT, run
from tests.deploy.test_wheel import OTHERS, PRODUCT
from tests.toolchains import absent, needs

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
LOCK = ROOT / "requirements" / "scorer.txt"
PERMISSIVE = {
    *("0BSD", "3-Clause BSD License", "Apache-2.0", "Apache 2", "Apache 2.0", "Apache Software License"),
    *("BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC License", "MIT", "MIT License", "PSF-2.0", "Zlib"),
    *("Apache-2.0 WITH LLVM-exception", "BSL-1.0", "Unicode-3.0"),
}
# Weak copyleft: it covers these packages only, which the scorer uses unchanged.
WEAK = {("crc32c", "LGPL-2.1-or-later"), ("orjson", "MPL-2.0")}


def dependencies() -> list[str]:
    names: list[str] = re.findall(r"^([\w.-]+)(?:\[.*\])?==", LOCK.read_text(), re.MULTILINE)
    assert len(names) > 30
    return names


def licences(name: str) -> set[str]:
    found = distribution(name).metadata.json
    stated = found.get("license_expression") or found.get("license")
    if stated is None:
        stated = ";".join(text.rpartition(" :: ")[2] for text in found["classifier"] if text.startswith("License"))
    return parts(str(stated))


def parts(stated: str) -> set[str]:
    """The licences that an expression names."""
    return {one.strip() for one in re.split(r" AND | OR |[();/]", stated) if one.strip()}


def test_the_version_is_the_same_everywhere() -> None:
    changes = re.findall(r"^## \[([\d.]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert changes[0] == VERSION
    files = [path for folder in ("deploy", "docs") for path in (ROOT / folder).rglob("*.[my]*") if path.is_file()]
    files.append(ROOT / "docker-compose.yml")
    tags = {tag for path in files for tag in re.findall(r"ctr-streamer(?:-sandbox)?:(\d[\w.]*)", path.read_text())}
    assert tags == {VERSION}


def test_the_lock_of_the_scorer_has_no_tensorflow() -> None:
    assert [name for name in dependencies() if re.match("tensorflow|keras|h5py", name)] == []


@pytest.mark.parametrize("name", dependencies())
def test_every_dependency_of_the_scorer_has_an_accepted_licence(name: str) -> None:
    found = licences(name)
    assert found
    assert {one for one in found - PERMISSIVE if (name, one) not in WEAK} == set()


def test_every_crate_has_an_accepted_licence() -> None:
    needs("cargo")
    done = run("cargo", "metadata", "--locked", "--format-version=1", f"--manifest-path={ROOT}/native/Cargo.toml")
    if done.returncode != 0:
        absent(f"no crates: {done.stderr}")
    crates = {crate["name"]: parts(crate["license"]) for crate in json.loads(done.stdout)["packages"]}
    assert {"pyo3", "xxhash-rust"} <= set(crates)
    assert {name: found - PERMISSIVE for name, found in crates.items() if not found or found - PERMISSIVE} == {}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository in which `make release` has run, with the programs of this environment."""
    needs("cargo")
    copy = tmp_path_factory.mktemp("release")
    for name in ("pyproject.toml", "README.md", "LICENSE", "Makefile"):
        shutil.copy(ROOT / name, copy)
    for name in (*PRODUCT, *OTHERS, "configs", "native", "requirements"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "target"))
    environment = sys.prefix
    made = run("make", "-C", copy, "-o", f"{environment}/.ready", "release", f"VENV={environment}", PYTHONPATH="")
    assert made.returncode == 0, made.stdout + made.stderr
    return copy


@pytest.mark.slow
def test_a_release_has_its_files_and_their_checksums(repository: Path) -> None:
    dist = repository / "dist"
    sums = dict(line.split()[::-1] for line in (dist / "SHA256SUMS").read_text().splitlines())
    wheel, source = f"ctr_streamer-{VERSION}-py3-none-any.whl", f"ctr_streamer-{VERSION}.tar.gz"
    (compiled,) = [p.name for p in dist.glob(f"ctr_streamer_native-{VERSION}-cp311-abi3-*.whl")]
    own = {wheel, source, compiled, f"ctr_streamer_native-{VERSION}.tar.gz"}
    assert set(sums) == {*own, "sbom.json", "licences.md"} == {p.name for p in dist.iterdir()} - {"SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256((dist / name).read_bytes()).hexdigest() == digest
    with zipfile.ZipFile(dist / wheel) as packed:
        top = {name.partition("/")[0] for name in packed.namelist()}
        assert {"streamer/py.typed", "model_training/py.typed", "streamer/formats/ctr.proto"} <= set(packed.namelist())
    assert top == {*PRODUCT, f"ctr_streamer-{VERSION}.dist-info"}
    with zipfile.ZipFile(dist / compiled) as packed:
        names = {name.rpartition("/")[2] for name in packed.namelist()}
        sizes = sum(info.file_size for info in packed.infolist())
    assert {"ctr_streamer_native.abi3.so", "LICENSE", "ctr-streamer-native.cyclonedx.json"} <= names
    assert sizes < 2**20
    with tarfile.open(dist / source) as unpacked:
        folders = {name.split("/")[1] for name in unpacked.getnames() if name.count("/") > 1}
    assert folders == {*PRODUCT, "ctr_streamer.egg-info"}


@pytest.mark.slow
def test_the_components_are_the_locked_dependencies(repository: Path) -> None:
    sbom = json.loads((repository / "dist" / "sbom.json").read_text())
    assert (sbom["metadata"]["component"]["name"], sbom["metadata"]["component"]["version"]) == (
        "ctr-streamer",
        VERSION,
    )
    expected = {name.lower().replace("_", "-") for name in dependencies()} | {"ctr-streamer-native"}
    assert {one["name"].lower().replace("_", "-") for one in sbom["components"]} == expected
    table = (repository / "dist" / "licences.md").read_text()
    assert len(table.splitlines()) == 2 + len(expected) + 1  # the project itself too
    for text in (table, json.dumps(sbom)):
        assert str(repository) not in text
        assert "file:" not in text


@pytest.mark.slow
def test_the_wheel_works_alone(repository: Path) -> None:
    """Neither extras nor TensorFlow are in its environment."""
    environment = repository / "build" / "release" / "bin"
    help_text = run(environment / "streamer", "--help", PYTHONPATH="")
    assert "check-config" in help_text.stdout, help_text.stderr
    imported = run(environment / "python", "-P", "-c", "import streamer.service as s; print(s.__file__)", PYTHONPATH="")
    assert str(repository / "build" / "release") in imported.stdout, imported.stderr
    version = run(environment / "streamer", "--version", PYTHONPATH="")
    assert version.stdout.splitlines() == [f"ctr-streamer {VERSION}", f"ctr-streamer-native: {VERSION}"]
    megabytes = sum(path.stat().st_size for path in environment.parent.rglob("*") if path.is_file()) / 1e6
    assert megabytes < 250
