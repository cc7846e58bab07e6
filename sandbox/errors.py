"""The base class of the sandbox's errors."""


class SandboxError(Exception):
    """A step failed.

    A program of the sandbox prints the message and exits with a status other than 0.
    """
