"""The containers of the compose file, started under podman. `make compose-test` runs the same program."""

import os
import subprocess
import sys

import pytest

from sandbox.containers.requirements import cannot_install, missing
from tests.deploy.compose import ROOT

TIMEOUT_S = 3600.0


@pytest.mark.slow
@pytest.mark.kafka
def test_the_containers_start_recover_and_stop() -> None:
    reason = missing()
    if reason is not None and ("CI" not in os.environ or cannot_install() is not None):
        pytest.skip(f"no containers: {reason}")
    assert reason is None
    done = subprocess.run(
        [sys.executable, "-m", "sandbox.containers"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
