"""The wheel has the product, its data and its console scripts, and nothing else."""

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.deploy.compose import ROOT, TIMEOUT_S

PRODUCT = ("streamer", "model_training")
OTHERS = ("sandbox", "benchmarks", "tests")
_BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"


def files_of(package: str) -> set[str]:
    """Paths of a package's files, relative to the root of the repository."""
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of a copy of the repository, built by this environment without a download."""
    copy, out = tmp_path_factory.mktemp("repository"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in (*PRODUCT, *OTHERS, "configs"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    built = subprocess.run(
        [sys.executable, "-c", _BUILD, str(out)],
        cwd=copy,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (file,) = out.glob("*.whl")
    return zipfile.ZipFile(file)


def test_every_file_of_the_product_is_in_it(wheel: zipfile.ZipFile) -> None:
    expected = files_of("streamer") | files_of("model_training")
    assert {"streamer/testing/__init__.py", "streamer/py.typed", "model_training/py.typed"} <= expected
    assert {path for path in expected if path.endswith(".properties")}
    assert expected - set(wheel.namelist()) == set()


def test_the_configs_of_training_are_in_it(wheel: zipfile.ZipFile) -> None:
    configs = ROOT / "configs"
    folders = [configs, *(configs / name for name in ("features", "models", "models/world", "prepare"))]
    expected = {str(path.relative_to(configs)) for folder in folders for path in folder.glob("*.yaml")}
    assert {"gate.yaml", "models/wide_deep.yaml", "features/reference.yaml"} <= expected
    start = "model_training/configs/"
    assert {name.removeprefix(start) for name in wheel.namelist() if name.startswith(start)} == expected


def test_nothing_else_is_in_it(wheel: zipfile.ZipFile) -> None:
    top = {name.partition("/")[0] for name in wheel.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == set(PRODUCT)


def test_its_console_scripts_are_those_of_the_product(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt")]
    points = configparser.ConfigParser()
    points.read_string(wheel.read(name).decode())
    scripts = dict(points["console_scripts"])
    assert set(scripts) == {"streamer", "model-training"}
    assert {target.partition(".")[0] for target in scripts.values()} == set(PRODUCT)


def test_the_scorer_starts_from_the_wheel_alone(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """`streamer --help` runs from the unpacked wheel alone."""
    wheel.extractall(tmp_path)
    program = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); sys.argv = ['streamer', '--help']\n"
        "from streamer.commands import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, str(tmp_path)],
        cwd=tmp_path,
        env={"PATH": "", "TERM": "dumb"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "check-config" in done.stdout


@pytest.mark.slow
@pytest.mark.tensorflow
def test_training_works_from_the_wheel_in_an_empty_folder(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    site, empty = tmp_path / "site", tmp_path / "empty"
    wheel.extractall(site)
    empty.mkdir()
    program = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); sys.argv[0] = 'model-training'\n"
        "from model_training.commands import main; main()"
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-c", program, str(site), *arguments]
        environment = {"PATH": os.environ["PATH"], "TERM": "dumb", "TF_CPP_MIN_LOG_LEVEL": "3"}
        return subprocess.run(
            command, cwd=empty, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )

    done = run("init", "--export-to", "models/ctr")
    assert done.returncode == 0, done.stderr
    assert (empty / "models/ctr/1/saved_model.pb").is_file()
    assert run("placement").returncode == 0
    done = run("train", "--log", "no.jsonl", "--config", "configs/models/deepfm.yaml")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: configs/models/deepfm.yaml: cannot be read: ")
    assert line.endswith(f"; the package has {site}/model_training/configs/models/deepfm.yaml")
