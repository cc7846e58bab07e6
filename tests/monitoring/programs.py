"""Programs of Prometheus: on the PATH, else unpacked from Debian's packages into build/ without root."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

FOLDER = Path("build/prometheus").absolute()
_PACKAGES = ("prometheus", "prometheus-alertmanager")
_DOWNLOAD_S = 300


def program(name: str) -> str:
    """The path of `prometheus`, `promtool` or `alertmanager`.

    Skips the test where the program is neither installed nor a package of this machine's apt; fails it in CI.
    """
    names = (name, f"prometheus-{name}")  # Debian's name of Alertmanager
    for where in (None, str(FOLDER / "usr/bin")):
        found = next(filter(None, (shutil.which(each, path=where) for each in names)), None)
        if found is not None:
            return found
        if where is None and (reason := _unpacked()) is not None:
            message = f"{name}: not on the PATH, and not from apt: {reason}"
            if "CI" in os.environ:
                pytest.fail(message)
            pytest.skip(message)
    pytest.fail(f"{name}: not in Debian's packages {', '.join(_PACKAGES)}")


@cache
def _unpacked() -> str | None:
    """Unpacks the packages once. Returns the reason if that is not possible."""
    if (FOLDER / "usr/bin/promtool").exists():
        return None
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        download = ["apt-get", "download", *_PACKAGES]
        subprocess.run(download, cwd=FOLDER, check=True, capture_output=True, text=True, timeout=_DOWNLOAD_S)
        for package in sorted(FOLDER.glob("*.deb")):
            subprocess.run(["dpkg", "-x", package, FOLDER], check=True, capture_output=True, text=True)
            package.unlink()
    except subprocess.CalledProcessError as error:
        return str(error.stderr).strip().splitlines()[-1]
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None
