"""Base images, made of Debian's packages: no registry of images is needed."""

import re
from collections.abc import Mapping
from pathlib import Path

from sandbox.containers.engine import Engine, run_program
from sandbox.containers.errors import ContainerError

_SUITE = "bookworm"
_MAKE_S = 1800.0
PACKAGES: Mapping[str, tuple[str, ...]] = {
    "python": ("python3", "python3-venv", "python3-pip", "python-is-python3", "ca-certificates"),
    "java": ("openjdk-17-jre-headless",),
    "prometheus": ("prometheus", "busybox"),
    "alertmanager": ("prometheus-alertmanager", "busybox"),
}
"""Packages of each base image beside the smallest Debian."""


def base_of(dockerfile: Path) -> str:
    """The image that a Dockerfile starts from."""
    found = re.search(r"^FROM (\S+)", dockerfile.read_text(), re.MULTILINE)
    if found is None:
        raise ContainerError(f"{dockerfile} has no FROM")
    return found.group(1)


def make_base(engine: Engine, kind: str, name: str) -> None:
    """Makes the image `localhost/name` unless it exists. Raises ContainerError."""
    if engine.succeeds("image", "exists", f"localhost/{name}"):
        return
    archive = engine.folder / f"{kind}.tar"
    command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES[kind])}", _SUITE, str(archive)]
    try:
        run_program(command, engine.environment, _MAKE_S)
        engine.podman("import", "--change", 'CMD ["/bin/sh"]', str(archive), f"localhost/{name}", timeout_s=_MAKE_S)
    finally:
        archive.unlink(missing_ok=True)
