"""Free TCP ports on the loopback interface."""

import random
import socket

from sandbox.errors import SandboxError

LOOPBACK = "127.0.0.1"
# Below every common ephemeral range (Linux 32768-60999, BSD and macOS 49152-65535): no outgoing connection takes such
# a port while its server is down, so the server can restart on it.
_FIRST, _LAST = 15_000, 32_000
_ATTEMPTS = 200


class NoFreePortError(SandboxError):
    """Too few free ports were found."""


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` of 127.0.0.1 now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Kafka does: ignore TIME_WAIT
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def accepts(port: int, timeout_s: float = 1.0) -> bool:
    """Whether a server accepts connections on `port` of 127.0.0.1."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=timeout_s).close()
    except OSError:
        return False
    return True


def free_ports(count: int) -> list[int]:
    """Returns `count` distinct ports on which no process listens.

    Raises:
        NoFreePortError: too few of the ports that were tried are free.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(range(_FIRST, _LAST), _ATTEMPTS):
        if is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise NoFreePortError(f"no {count} free ports between {_FIRST} and {_LAST} on {LOOPBACK}")
