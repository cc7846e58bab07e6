"""The import contracts of pyproject.toml hold for a module from the day that it is created."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("streamer", "model_training", "sandbox")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages and their contracts, in a folder where a test may add modules."""
    folder = tmp_path_factory.mktemp("copy")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    # Not by `python -m`, which has no module for it, and from the copy, whose packages come first on the path.
    program = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False
    )


def test_the_contracts_hold(copy: Path) -> None:
    found = lint(copy)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("streamer/scoring/new.py", "import asyncio", "pure code"),
        ("streamer/features/new.py", "import time", "pure code"),
        ("streamer/rollout/new.py", "from streamer.metrics import Metrics", "pure code"),
        ("streamer/scoring/new.py", "from streamer.kafka import offsets", "imports downwards only"),
        ("streamer/ops/new.py", "from streamer import service", "imports downwards only"),
        ("streamer/ops/new.py", "import aiokafka", "only streamer.kafka"),
        ("streamer/commands/new.py", "import grpc", "only streamer.serving"),
        ("streamer/kafka/new.py", "from sandbox import broker", "neither training, nor the sandbox"),
        ("streamer/new.py", "", "imports downwards only"),
        ("sandbox/world/new.py", "from sandbox.broker import topics", "sandbox's layers"),
        ("sandbox/new.py", "", "sandbox's layers"),
        ("model_training/new.py", "import sandbox", "training never imports the sandbox"),
        ("model_training/data/new.py", "from streamer import codec", "only distribution, features and types"),
        ("model_training/commands/new.py", "from streamer import errors", "only distribution, features and types"),
        ("model_training/layers/new.py", "from model_training.parts import deep", "model_training's layers"),
        ("model_training/new.py", "", "model_training's layers"),
        ("model_training/distributed/new.py", "", "model_training.distributed's layers"),
        ("model_training/models/new.py", "from model_training.models.dcn import DeepCross", "models never import"),
        ("model_training/evaluation/new.py", "import tensorflow", "imports no TensorFlow"),
    ],
)
def test_a_new_module_is_checked(copy: Path, module: str, line: str, broken: str) -> None:
    added = copy / module
    added.write_text(f"{line}\n")
    try:
        found = lint(copy)
    finally:
        added.unlink()
    assert found.returncode == 1, found.stdout + found.stderr
    said = " ".join(found.stdout.partition("Broken contracts")[2].split())
    assert broken in said, found.stdout
    assert module.removesuffix(".py").replace("/", ".") in said, found.stdout
