"""Names of settings: renamed ones, those of variables, the most similar ones. Pure."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Final

from pydantic import BaseModel

ENVIRONMENT_PREFIX: Final = "STREAMER_"
DELIMITER: Final = "__"
RENAMED: Mapping[str, str] = {
    "source.max_in_flight_bytes": "source.max_unacknowledged_bytes",
    "features.remembered_ads": "features.memoised_ads",
    "batching.max_in_flight_batches": "batching.max_concurrent_calls",
    "predictor.breaker_failures": "predictor.circuit_failures",
    "predictor.breaker_pause_ms": "predictor.circuit_open_ms",
    "predictor.breaker_max_pause_ms": "predictor.circuit_max_open_ms",
    "shadow.max_waiting": "shadow.max_queued_requests",
    "feature_log.max_waiting": "feature_log.max_queued_requests",
}
"""Settings of 0.1 and their names since 0.2."""
REMOVED: Mapping[str, str] = {
    "batching.in_flight": "the number of concurrent calls follows the servers",
    "supervisor.poll_ms": "workers report to the supervisor",
}
"""Settings of 0.1 that 0.2 does not have, and why not."""

Sections = Mapping[str, type[BaseModel]]
"""The section classes by name."""


def sections_of(settings: type[BaseModel]) -> Sections:
    """The sections of all settings."""
    found = {name: field.annotation for name, field in settings.model_fields.items()}
    return {name: cls for name, cls in found.items() if isinstance(cls, type) and issubclass(cls, BaseModel)}


def variable_of(setting: str) -> str:
    """The environment variable of a setting, which is given as `section.name`."""
    return ENVIRONMENT_PREFIX + setting.replace(".", DELIMITER).upper()


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the most similar one, or all that are known."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known here: {', '.join(known)}"


def printable(text: str, *, keep_lines: bool = False) -> str:
    """The text of others for a terminal, with each unprintable character as its escape (`\\x1b`).

    Unprintable are control characters, also those above 127, changes of the writing direction, lone surrogates, and
    line ends unless `keep_lines`.
    """
    if text.isprintable():
        return text
    kept = "\n" if keep_lines else ""
    return "".join(one if one.isprintable() or one in kept else ascii(one)[1:-1] for one in text)
