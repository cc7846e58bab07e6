"""The error of this package."""

from sandbox.errors import SandboxError


class ContainerError(SandboxError):
    """A program failed, or a container is not as declared; the message has name and output."""
