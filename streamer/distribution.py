"""The installed distribution: its version, and the extra of a missing module. Pure."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

NAME = "ctr-streamer"
EXTRAS: Mapping[str, str] = {
    "opentelemetry": "tracing",
    "pandas": "training",
    "py4j": "training",
    "pyarrow": "training",
    "pyspark": "training",
    "schema_registry": "registry",
    "sklearn": "training",
    "tensorflow": "training",
}
"""The extra of each optional module that the two packages import."""


def installed_version() -> str:
    """The version of the distribution; `unknown` where only its files are."""
    try:
        return version(NAME)
    except PackageNotFoundError:
        return "unknown"


def missing_extra(error: ImportError) -> str | None:
    """The line for a person who has not installed an extra; None if another module is missing."""
    module = (error.name or "").partition(".")[0]
    if module not in EXTRAS:
        return None
    return f"{module} is not installed: pip install '{NAME}[{EXTRAS[module]}]'"
