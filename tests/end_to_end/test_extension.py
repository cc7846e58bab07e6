"""The template of a package with extensions is built, installed, passes its tests and scores a request."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import msgspec
import pytest

from tests.docs.worked_examples import ROOT

_TIMEOUT_S = 300.0
_BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
DOCUMENT = {
    "request_id": "r",
    "context": {"url": "https://www.shop.example/shoes"},
    "candidates": [{"ad_id": "a", "brand": "b"}, {"ad_id": "c", "brand": "d"}],
}


def run(*command: object, cwd: Path, **environment: str) -> str:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=variables, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_template_is_installed_and_scores_a_request(tmp_path: Path) -> None:
    package = tmp_path / "extension"
    shutil.copytree(ROOT / "examples/extension", package, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    run(sys.executable, "-c", _BUILD, tmp_path, cwd=package)
    (wheel,) = tmp_path.glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv/bin/python"
    (site,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    # It sees the packages of this environment, as if they were installed in it.
    (site / "others.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    shutil.rmtree(package / "ctr_example")
    assert " passed" in run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=package)
    (tmp_path / "request.msgpack").write_bytes(msgspec.msgpack.encode(DOCUMENT))
    (tmp_path / "scorer.yaml").write_text(
        json.dumps(
            {
                "codec": {"formats": ["msgpack"]},
                "predictor": {"protocol": "prior", "addresses": [str(package / "spec.yaml")]},
            }
        )
    )
    explain = (python, "-m", "streamer", "explain", "request.msgpack", "--config", "scorer.yaml", "--json")
    found = json.loads(run(*explain, "--content-type", "application/msgpack", cwd=tmp_path))
    assert found["outcome"] == "scored"
    assert [candidate["ctr"] for candidate in found["candidates"]] == pytest.approx([0.03, 0.03])
    site_feature, _ = found["features"]
    assert (site_feature["value"], site_feature["state"]) == ("shop.example", "given")
