"""Errors of the sandbox's brokers."""

from sandbox.errors import SandboxError


class BrokerError(SandboxError):
    """The broker cannot be fetched, started or reached; the message has the tail of its log."""


class BrokerUnsupportedError(BrokerError):
    """This kind of broker does not support the operation; Apache Kafka does."""
