"""The containers of the compose file, started under podman. `make compose-test` runs the same program."""

import subprocess
import sys

import pytest

from sandbox.containers.requirements import cannot_install, missing
from tests.deploy.compose import ROOT
from tests.toolchains import absent

TIMEOUT_S = 3600.0


@pytest.mark.slow
@pytest.mark.kafka
def test_the_containers_start_recover_and_stop() -> None:
    reason = missing()
    if reason is not None:
        if cannot_install() is not None:
            pytest.skip(f"no containers: {reason}")
        absent(f"no containers: {reason}")
    done = subprocess.run(
        [sys.executable, "-m", "sandbox.containers"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
