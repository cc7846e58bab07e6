"""Recorded lifecycles that do not hold on the stand-in, each with its reason."""

from collections.abc import Mapping

_CRASH = "the real server crashes; the stand-in names the fault and ends with status 255"

LIFECYCLE_EXCEPTIONS: Mapping[str, str] = {
    "l042": _CRASH,
    "l059": "the stand-in says that it is the stand-in, so that nothing takes it for the real server",
    "l114": _CRASH,
    "l115": _CRASH,
}
"""Id of a lifecycle → why what is observed differs."""
