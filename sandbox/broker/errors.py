"""Errors of the sandbox's brokers."""

from sandbox.errors import SandboxError


class BrokerError(SandboxError):
    """The broker cannot be fetched, started or reached; the message ends with the tail of its log, if it has one."""


class BrokerUnsupportedError(BrokerError):
    """This kind of broker does not support the operation; Apache Kafka does."""
