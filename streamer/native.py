"""The compiled form of the hot loops: the distribution `ctr-streamer-native`, if installed.

Each class of it has a twin in Python with the same results, which is used without it.
"""

import os
from types import ModuleType

API = 7
"""Rises when a class of the distribution changes its parameters or results."""
SWITCH = "CTR_STREAMER_NATIVE"
"""With `off` in this environment variable the installed distribution is not used."""


def loaded() -> tuple[ModuleType | None, str]:
    """The package, or None; and its version, or why it is not used."""
    if os.environ.get(SWITCH) == "off":
        return None, f"off: {SWITCH}=off"
    try:
        import ctr_streamer_native as found  # noqa: PLC0415  it is optional
    except ImportError as error:
        if error.name == "ctr_streamer_native":
            return None, "not installed"
        # for example a library of another platform
        return None, f"unused: {error}"
    # A folder of this name without code is a module, too.
    version, interface = getattr(found, "__version__", "unknown"), getattr(found, "API", None)
    if interface != API:
        return None, f"unused: version {version} has interface {interface}, expected {API}"
    return found, str(version)


module, state = loaded()
"""The package, or None; and its version, or why it is not used."""
