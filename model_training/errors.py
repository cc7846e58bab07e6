"""Errors of training, sorted by who can mend them. Each message is one line for a person."""


class TrainingError(Exception):
    """Base of all errors that this package raises on purpose. Next: stop, exit status 2; nothing is half-written."""


class ConfigError(TrainingError):
    """A config or feature spec that is unknown, impossible, or does not fit the data."""


class DataError(TrainingError):
    """A log or records that cannot be trained on; names file, line and field where there are any."""


class ExportError(TrainingError):
    """A model that cannot be written where it was asked for."""
