"""The compiled form of the encoder's hot loops, if it is installed: `ctr-streamer-native`.

Each class of it has a twin in Python with the same results, which is used without it.
"""

import os
from types import ModuleType

API = 3
"""Rises when a class of the distribution changes its parameters or results."""
SWITCH = "CTR_STREAMER_NATIVE"
"""With `off` in this environment variable the installed distribution is not used."""


def _loaded() -> tuple[ModuleType | None, str]:
    if os.environ.get(SWITCH) == "off":
        return None, f"off: {SWITCH}=off"
    try:
        import ctr_streamer_native as found  # noqa: PLC0415  it is optional
    except ImportError as error:
        return None, f"not installed: {error}"
    if found.API != API:
        return None, f"unused: version {found.__version__} has interface {found.API}, expected {API}"
    return found, str(found.__version__)


module, state = _loaded()
"""The package, or None; and its version, or why it is not used."""
