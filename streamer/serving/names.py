"""`dns:///` names of model servers: the addresses that they lead to, looked up repeatedly."""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Sequence

LookUp = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses `ip:port` of a host and a port. Raises OSError if the host cannot be resolved."""

# A name with its own DNS server (`dns://server/…`) is left to gRPC.
_NAME = re.compile(r"dns:(?:///)?(?P<host>[^/\[\]:,]+):(?P<port>\d+)")
_INTERVAL_S = 5.0
_KEPT_S = 60.0


def host_and_port(address: str) -> tuple[str, int] | None:
    """The host and the port of `dns:///host:port`; None for another form of address."""
    found = _NAME.fullmatch(address)
    return None if found is None else (found["host"], int(found["port"]))


async def look_up(host: str, port: int) -> Sequence[str]:
    """The IPv4 addresses of a host, else its IPv6 addresses: one server may have both.

    Raises:
        OSError: the host cannot be resolved.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    by_family = {family: {info[4][0] for info in found if info[0] == family} for family in {info[0] for info in found}}
    if four := by_family.get(socket.AF_INET):
        return [f"{ip}:{port}" for ip in four]
    return [f"[{ip}]:{port}" for ip in by_family.get(socket.AF_INET6, ())]


class Name:
    """The addresses of one name, looked up every 5 s.

    1. An address is new at once, and removed when all look-ups of the last 60 s lack it: some DNS servers give only a
       part of the addresses each time.
    2. A failed or empty look-up changes nothing. One that hangs delays nobody for longer than it is given.
    """

    def __init__(self, address: str, look_up: LookUp) -> None:
        self.addresses: frozenset[str] = frozenset()
        self.error: str | None = None
        self._target = host_and_port(address)
        self._look_up = look_up
        self._started = -_INTERVAL_S
        self._task: asyncio.Future[Sequence[str]] | None = None
        self._seen: dict[str, float] = {}

    async def refresh(self, now: float, timeout_s: float) -> None:
        """Looks the name up unless it was looked up less than 5 s ago.

        It waits at most `timeout_s` for the result; a later call takes it over.
        """
        if self._target is None:
            return
        if self._task is None:
            if now - self._started < _INTERVAL_S:
                return
            self._started = now
            self._task = asyncio.ensure_future(self._look_up(*self._target))
        task = self._task
        await asyncio.wait({task}, timeout=timeout_s)
        if task.done() and task is self._task:
            self._task = None
            try:
                found = task.result()
                self.error = None
                if found:
                    seen = self._seen | dict.fromkeys(found, now)
                    self._seen = {address: at for address, at in seen.items() if now - at < _KEPT_S}
                    self.addresses = frozenset(self._seen)
            except (OSError, UnicodeError) as error:  # UnicodeError: a label of the name is empty or too long
                self.error = str(error)

    def close(self) -> None:
        """Ends a look-up."""
        if self._task is not None:
            self._task.cancel()
