"""The limits of containers."""

import resource
from pathlib import Path

import pytest

from sandbox.containers.engine import Engine


@pytest.mark.parametrize(
    ("nofile", "nproc", "written"),
    [
        (1_024, resource.RLIM_INFINITY, '"nofile=1024:1024", "nproc=4096:4096"'),
        (resource.RLIM_INFINITY, 100, '"nofile=65536:65536", "nproc=100:100"'),
        (10**6, 10**6, '"nofile=65536:65536", "nproc=4096:4096"'),
    ],
)
def test_no_limit_is_above_that_of_this_process(
    nofile: int, nproc: int, written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hard = {resource.RLIMIT_NOFILE: nofile, resource.RLIMIT_NPROC: nproc}
    monkeypatch.setattr(resource, "getrlimit", lambda name: (0, hard[name]))
    Engine(tmp_path).configure()
    assert f"default_ulimits = [{written}]" in (tmp_path / "containers.conf").read_text()
