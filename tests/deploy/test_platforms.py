"""The versions of Python and the platforms that docs/deployment.md names."""

import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.deploy.compose import ROOT, run, script

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin", "x86_64-apple-darwin")
EXTRAS = {"scorer": ("tracing", "registry"), "training": ("training",), "sandbox": ("sandbox",)}
# A fast part of the scorer's tests: it needs neither TensorFlow nor brokers.
PART = ("features/test_encoder.py", "formats", "serving/test_predictor.py", "test_codec.py", "test_pipeline.py")
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not generated_code")


def interpreter(version: str) -> str | None:
    """A program of this version on this machine."""
    others = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin/python")
    for program in (shutil.which(f"python{version}"), *map(str, others)):
        if program and run(program, "-c", "import venv").returncode == 0:
            return program
    return None


@pytest.mark.slow
@pytest.mark.parametrize("version", PYTHONS)
def test_the_scorer_works_with_this_python(version: str, tmp_path: Path) -> None:
    program = interpreter(version)
    if program is None:
        pytest.skip(f"this machine has no Python {version}")
    uv, python = script("uv"), tmp_path / "venv" / "bin" / "python"
    install = (uv, "pip", "install", "--python", python)
    commands: tuple[tuple[str | Path, ...], ...] = (
        (uv, "venv", "--python", program, tmp_path / "venv"),
        (*install, "--no-deps", "-r", ROOT / "requirements/scorer.txt"),
        (*install, "-c", ROOT / "requirements/dev.txt", "pytest", "pytest-asyncio", "hypothesis", "confluent-kafka"),
        (python, "-m", "streamer", "--help"),
        (python, "-c", "import streamer.service"),
        (python, *PYTEST, "-m", "not slow and not kafka", *(f"tests/streamer/{name}" for name in PART)),
    )
    for command in commands:
        done = run(*command, PYTHONPATH=str(ROOT))
        assert done.returncode == 0, done.stdout + done.stderr


def stated(part: str) -> list[str]:
    """The cells of a part in the page's table, one for each platform."""
    page = (ROOT / "docs" / "deployment.md").read_text()
    assert "| Linux x86-64 | Linux arm64 | macOS arm64 | macOS x86-64 |" in page
    (row,) = re.findall(rf"^\| `?{part}`?(?:,[^|]*)? \| (3.*) \|$", page, re.MULTILINE)
    return row.split(" | ")  # type: ignore[no-any-return]


def resolves(extras: tuple[str, ...], platform: str, version: str) -> bool:
    """Whether every dependency has a wheel, and TensorFlow a final version.

    PySpark has no wheel, and contains no code to compile.
    """
    wanted = [word for extra in extras for word in ("--extra", extra)]
    only = ("--only-binary", ":all:", "--no-binary", "pyspark", "--quiet")
    where = ("--python-platform", platform, "--python-version", version)
    done = run(script("uv"), "pip", "compile", ROOT / "pyproject.toml", *wanted, *where, *only)
    return done.returncode == 0 and not re.search(r"^tensorflow==[\d.]+[a-z]", done.stdout, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("part", EXTRAS)
def test_the_table_of_the_page_is_true(part: str, platform: str) -> None:
    with ThreadPoolExecutor() as threads:  # most of the time they wait for the package index
        answers = threads.map(lambda version: resolves(EXTRAS[part], platform, version), PYTHONS)
    found = [version for version, resolved in zip(PYTHONS, answers, strict=True) if resolved]
    cell = f"{found[0]} to {found[-1]}" if found else "no"
    assert stated(part)[PLATFORMS.index(platform)] == cell
