"""Errors of training, sorted by the next action. Each message is one line for a person."""

import re
from typing import ClassVar

_OPERATION = re.compile(
    r"\[\[\{\{\w+ [^}]*\}\}\]\]|\{\{\w+ [^}]*\}\}|\[Op:\w+\]( name:.*)?"
    r'|^(Graph execution error:|Detected at node .*|<stack traces unavailable>| *File ".*)$',
    re.MULTILINE,
)


class TrainingError(Exception):
    """Base of this package's errors. Next: stop with `status`; nothing is half-written."""

    status: ClassVar[int] = 2
    """The command's exit status. Status 2 means that a restart would fail in the same way."""


class ConfigError(TrainingError):
    """A config or feature spec is unknown, impossible, or does not fit the data."""


class DataError(TrainingError):
    """A log or records cannot be used for training; names file, line and field where possible."""


class ExportError(TrainingError):
    """A model or a checkpoint cannot be written to the given path."""


class BrokenVersionError(ExportError):
    """A version is damaged, or fails on rows of its own spec. Next: use another version."""


class NoExpressionError(ConfigError):
    """A log has no values for a feature. Next: leave out the version that needs it."""


class PeerError(TrainingError):
    """A needed process has ended. Next: restart all processes from the last checkpoint."""

    status: ClassVar[int] = 1


def in_a_line(error: BaseException) -> str:
    """The message of a system or TensorFlow error in one line, without stacks and operations."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else getattr(error, "message", str(error))
    return " ".join(_OPERATION.sub("", str(reason)).split())
