"""Whether this machine can run the containers."""

import os
import shutil
import sys

PACKAGES = (
    "podman",
    "buildah",
    "runc",
    "mmdebstrap",
    "netavark",
    "aardvark-dns",
    "iptables",
    "catatonit",
    "maven",
)
"""Debian's packages."""
_PROGRAMS = ("podman", "mmdebstrap", "iptables", "mvn")


def cannot_install() -> str | None:
    """Why the packages cannot be installed here; None if they can."""
    if sys.platform != "linux":
        return "containers need Linux"
    if os.geteuid() != 0:
        return "podman needs root: the networks and limits of the file"
    return None if shutil.which("apt-get") else "no apt-get on PATH"


def missing() -> str | None:
    """The first unmet requirement of this machine, with its remedy; None if it meets all."""
    absent = [name for name in _PROGRAMS if shutil.which(name) is None]
    if not absent and sys.platform == "linux" and os.geteuid() == 0:
        return None
    reason = cannot_install()
    if reason is not None:
        return reason
    return f"no {absent[0]} on PATH: apt-get install --no-install-recommends {' '.join(PACKAGES)}"
