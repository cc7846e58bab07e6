"""Environment variables: which of them are settings, and how their values are read."""

import difflib
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, get_origin

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource

from streamer.settings.names import (
    DELIMITER,
    ENVIRONMENT_PREFIX,
    REMOVED,
    RENAMED,
    Sections,
    nearest,
    sections_of,
    variable_of,
)

# Kubernetes describes each service of the namespace in such variables, for example a service `streamer-kafka`.
_OF_A_SERVICE = re.compile(
    r"STREAMER(_[A-Z0-9_]+)?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_ADDRESS_OF_A_SERVICE = re.compile(r"(tcp|udp|sctp)://")
# Names that are less similar to a setting's can be names of something else.
_SIMILAR: Final = 0.85


class Environment(EnvSettingsSource):
    """The values of the variables that are settings.

    A list is JSON, or its items are separated by commas. A value that is not JSON stays a text, which the validation
    of its setting rejects.
    """

    def __init__(self, settings: type[BaseSettings]) -> None:
        super().__init__(settings)
        found, _ = meant_as_settings(os.environ, sections_of(settings))
        self.env_vars = {name.lower(): value for name, value in found.items()}

    def decode_complex_value(self, field_name: str, field: FieldInfo | None, value: Any) -> Any:
        """The value of a section, mapping or list."""
        is_list = field is not None and get_origin(field.annotation) is tuple
        if is_list and not value.strip().startswith("["):
            return [item.strip() for item in value.split(",")]
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value


def meant_as_settings(environment: Mapping[str, str], sections: Sections) -> tuple[dict[str, str], list[str]]:
    """The variables that are settings, and a line for each that is meant as one and is none.

    The names are in upper case. Other variables are ignored, among them those that Kubernetes sets for the services
    of a namespace.
    """
    known = [f"{section}.{name}" for section, cls in sections.items() for name in cls.model_fields]
    found: dict[str, str] = {}
    lines: list[str] = []
    for original, value in environment.items():
        name = original.upper()
        if not name.startswith(ENVIRONMENT_PREFIX) or _is_of_a_service(name, value):
            continue
        section, *rest = name.removeprefix(ENVIRONMENT_PREFIX).lower().split(DELIMITER)
        setting = ".".join([section, *rest[:1]])
        if setting in (known if rest else sections) and (len(rest) < 2 or _is_mapping(sections[section], rest[0])):
            found[name] = value
        elif wrong := _wrong(name, setting, sections, known):
            lines.append(f"environment variable {original}: {wrong}")
    return found, lines


def source_of(where: Sequence[str], variables: Mapping[str, str]) -> str | None:
    """The variable that a wrong value comes from; `where` is the value's path."""
    for length in (3, 2, 1):
        name = variable_of(".".join(where[:length]))
        if name in variables and (length > 1 or len(where) == 1 or _holds(variables[name], where[1])):
            return name
    return None


def _wrong(name: str, setting: str, sections: Sections, known: Sequence[str]) -> str | None:
    """Why a variable is no setting; None if it is not meant as one."""
    section, _, key = setting.partition(".")
    if setting in RENAMED:
        return f"renamed in 0.2.0 to {variable_of(RENAMED[setting])}"
    if setting in REMOVED:
        return f"removed in 0.2.0: {REMOVED[setting]}"
    if setting in known:
        return f"{setting} is one value, in {variable_of(setting)}"
    # The most similar setting, without regard to underscores.
    alike = {other.replace(".", "").replace("_", ""): other for other in known}
    plain = name.removeprefix(ENVIRONMENT_PREFIX).replace("_", "").lower()
    close = difflib.get_close_matches(plain, alike, n=1, cutoff=0.5 if key else _SIMILAR)
    meant = [alike[one] for one in close]
    if not key and not meant and "_" in section:
        meant = [other for other in known if other.endswith(f".{section}")]
    if meant:
        return f"unknown setting; did you mean {' or '.join(map(variable_of, meant))}?"
    return f"unknown section {section!r}{nearest(section, sections)}" if key else None


def _is_of_a_service(name: str, value: str) -> bool:
    if name.endswith("_PORT") and DELIMITER not in name and _ADDRESS_OF_A_SERVICE.match(value):
        return True
    return _OF_A_SERVICE.fullmatch(name) is not None


def _is_mapping(section: Any, name: str) -> bool:
    return get_origin(section.model_fields[name].annotation) is Mapping


def _holds(section: str, name: str) -> bool:
    """Whether a section in JSON has this setting."""
    try:
        return name in json.loads(section)
    except (ValueError, TypeError, RecursionError):
        return False
