"""Errors of training, sorted by who can mend them. Each message is one line for a person."""

import re
from typing import ClassVar

_OPERATION = re.compile(r"\{\{\w+ [^}]*\}\}|\[Op:\w+\]( name:.*)?")


class TrainingError(Exception):
    """Base of all errors that this package raises on purpose. Next: stop with `status`; nothing is half-written."""

    status: ClassVar[int] = 2
    """The command's exit status: another start would end the same way."""


class ConfigError(TrainingError):
    """A config or feature spec that is unknown, impossible, or does not fit the data."""


class DataError(TrainingError):
    """A log or records that cannot be trained on; names file, line and field where there are any."""


class ExportError(TrainingError):
    """A model, or a checkpoint of one, that cannot be written where it was asked for."""


class PeerError(TrainingError):
    """A process without which the others cannot go on is gone. Next: start all again, from the last checkpoint."""

    status: ClassVar[int] = 1


def in_a_line(error: BaseException) -> str:
    """What an error of the system or of TensorFlow says, without line breaks and names of operations."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else getattr(error, "message", str(error))
    return " ".join(_OPERATION.sub("", str(reason)).split())
