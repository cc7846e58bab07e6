"""Errors, classified by the next action: answer, dead-letter, degrade, retry or stop."""


def shown(value: object, most: int = 60) -> str:
    """A value of JSON in a message, at most so many characters; "nothing" for None.

    JSON can nest so deep that `repr` exhausts the stack.
    """
    try:
        return "nothing" if value is None else f"{value!r:.{most}}"
    except RecursionError:
        return "a value nested too deeply"


class StreamerError(Exception):
    """Base of all errors that this package raises deliberately."""


class InvalidRequestError(StreamerError):
    """A bid request that cannot be scored. Next: answer `invalid`; without an id, dead-letter."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class SpecError(StreamerError):
    """An invalid feature spec; the message names the feature. Next: stop before it is used."""


class ConfigError(StreamerError):
    """Settings that are invalid, or in conflict with topics or model. Next: stop, exit status 2."""


class UnreachableError(ConfigError):
    """No broker or registry answers. Next: a starting worker retries; a command fails."""


class FencedError(StreamerError):
    """Another worker has taken over a partition of this one. Next: stop without a commit."""

    def __init__(self, topic: str, partition: int) -> None:
        super().__init__(f"another worker has taken over {topic}/{partition}; this worker commits nothing more of it")


class MessageTooLargeError(StreamerError):
    """A message larger than its topic accepts. Next: dead-letter it; shorten a dead letter."""

    def __init__(self, size: int, topic: str) -> None:
        super().__init__(f"{size} bytes are too large for topic {topic!r}")


class QueueFullError(StreamerError):
    """A full queue rejected rows. Next: answer the request with priors."""


class PredictError(StreamerError):
    """A call to the model server failed. Next: answer with priors, `fallback` or `partial`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail

    def after(self, rejection: "PredictError | None") -> "PredictError":
        """This failure; a timeout names the rejection of the same call that took its time."""
        if rejection is None or self.code != "DEADLINE_EXCEEDED":
            return self
        return PredictError(self.code, f"{self.detail}, after {rejection}")


class TableLoadingError(PredictError):
    """A version's table of ads is not loaded yet. Next: another one serves; prepare it later."""

    def __init__(self, progress: str, *, has_no_space: bool = False) -> None:
        super().__init__("UNAVAILABLE", progress)
        self.has_no_space = has_no_space


class VersionGoneError(PredictError):
    """The model server no longer has the serving version. Next: switch to another one at once."""


class BadReplyError(PredictError):
    """A reply with a wrong count, dtype or range. Next: answer with priors; cache nothing."""
