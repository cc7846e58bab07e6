"""Errors of the sandbox's brokers."""


class BrokerError(Exception):
    """A broker could not be fetched, started or reached; the message ends with its log, if there is one."""


class BrokerUnsupportedError(BrokerError):
    """This kind of broker cannot do what was asked of it; only a real Apache Kafka can."""
