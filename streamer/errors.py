"""Errors, sorted by what to do next: answer it, dead-letter it, degrade, or stop."""


class StreamerError(Exception):
    """Base of all errors that this package raises on purpose."""


class InvalidRequestError(StreamerError):
    """A bid request that cannot be scored as it is. Next: answer it `invalid`, or dead-letter it without an id."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class SpecError(StreamerError):
    """A feature spec that contradicts itself. Next: stop before anything is served; the message names the feature."""


class ConfigError(StreamerError):
    """Settings that are unknown, impossible, or contradicted by the live topics or model. Next: stop, exit status 2."""


class UnreachableError(ConfigError):
    """No broker answers, for now or for good. Next: try again while the worker starts; a command gives up."""


class FencedError(StreamerError):
    """Another worker has taken over a partition that this one still works on. Next: stop, it commits nothing more."""

    def __init__(self, topic: str, partition: int) -> None:
        super().__init__(f"another worker has taken over {topic}/{partition}; nothing of it is committed here any more")


class MessageTooLargeError(StreamerError):
    """A message that its topic does not take. Next: dead-letter the record; leave out parts of a dead letter."""

    def __init__(self, size: int, topic: str) -> None:
        super().__init__(f"{size} bytes are too large for topic {topic!r}")


class QueueFullError(StreamerError):
    """A bounded queue refused. Next: read no more; answer what cannot wait with the fallback."""


class PredictError(StreamerError):
    """The model server gave no usable scores in time. Next: answer with the fallback and mark it."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class VersionGoneError(PredictError):
    """The serving version is no longer on the model server. Next: switch to another version at once."""


class BadReplyError(PredictError):
    """The model server answered with the wrong count, dtype or range. Next: fallback; never cached."""
