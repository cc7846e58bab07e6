"""pip's settings of this machine, for builds of images. The project has none of its own."""

import configparser
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

_KEYS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries", "cert", "client-cert")
_FILES = ("/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf")


def merged(texts: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Settings that a build needs, of files, then of variables; the last one counts. Pure."""
    found: dict[str, str] = {}
    for text in texts:
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(text)
        for section in ("global", "install"):
            if parser.has_section(section):
                found |= {key: parser[section][key] for key in _KEYS if key in parser[section]}
    if "cert" not in found and "REQUESTS_CA_BUNDLE" in environment:
        found["cert"] = environment["REQUESTS_CA_BUNDLE"]
    variables = {key: environment.get(f"PIP_{key.replace('-', '_').upper()}") for key in _KEYS}
    return found | {key: value for key, value in variables.items() if value}


def build_volumes(folder: Path) -> list[str]:
    """Options of `podman build` that mount the settings and the certificates that they name.

    Writes the settings into `folder`.
    """
    own = os.environ.get("PIP_CONFIG_FILE")
    paths = [Path(name).expanduser() for name in (*_FILES, *([own] if own else []))]
    settings = merged([path.read_text() for path in paths if path.is_file()], os.environ)
    file = folder / "pip.conf"
    file.write_text("".join(["[global]\n", *(f"{key} = {value}\n" for key, value in settings.items())]))
    mounts = [f"{file}:/etc/pip.conf:ro"]
    certificates = {settings[key] for key in ("cert", "client-cert") if key in settings}
    mounts += [f"{path}:{path}:ro" for path in sorted(certificates) if Path(path).is_file()]
    return [word for mount in mounts for word in ("--volume", mount)]
