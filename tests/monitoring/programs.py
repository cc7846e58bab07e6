"""Programs of Prometheus: on the PATH, else unpacked from Debian's packages into build/ without root."""

import shutil
import subprocess
from functools import cache
from pathlib import Path

from tests.toolchains import absent

_FOLDER = Path("build/prometheus").absolute()
_PACKAGES = ("prometheus", "prometheus-alertmanager")
_DOWNLOAD_S = 300
# Debian's Alertmanager reads a template in /usr/share; it sees the unpacked one there.
_IN_PLACE = 'mount --bind "$0/share" /usr/share && exec "$0/bin/prometheus-alertmanager" "$@"'


def command(name: str) -> list[str]:
    """The command of `prometheus`, `promtool` or `alertmanager`, without arguments.

    Skips the test where the program is neither installed nor a package of this machine's apt; fails it in CI.
    """
    for each in (name, f"prometheus-{name}"):  # Debian's name of Alertmanager
        if (found := shutil.which(each)) is not None:
            return [found]
    if (reason := _unpacked()) is not None:
        absent(f"{name} is not on the PATH, and apt does not have it: {reason}")
    if name == "alertmanager":
        unshare = ["unshare", "--user", "--map-root-user", "--mount"]
        return [*unshare, "sh", "-c", _IN_PLACE, str(_FOLDER / "usr")]
    return [str(_FOLDER / "usr/bin" / name)]


@cache
def _unpacked() -> str | None:
    """Unpacks the packages once. Returns the reason if that is not possible."""
    if (_FOLDER / "usr/bin/promtool").exists():
        return None
    _FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        download = ["apt-get", "download", *_PACKAGES]
        subprocess.run(download, cwd=_FOLDER, check=True, capture_output=True, text=True, timeout=_DOWNLOAD_S)
        for package in sorted(_FOLDER.glob("*.deb")):  # promtool comes last
            subprocess.run(["dpkg", "-x", package, _FOLDER], check=True, capture_output=True, text=True)
            package.unlink()
    except subprocess.CalledProcessError as error:
        return str(error.stderr).strip().splitlines()[-1]
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None
