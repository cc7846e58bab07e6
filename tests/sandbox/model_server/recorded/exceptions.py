"""Recorded calls that do not hold on the stand-in, each with its reason."""

from collections.abc import Mapping

EXCEPTIONS: Mapping[str, str] = {}
"""Id of a call → why its answer differs."""
