"""Bounds the open connections of an HTTP port, idle ones included."""

import asyncio
from typing import cast

from aiohttp import web


class Entry(asyncio.Protocol):
    """A new connection, which becomes one of `server`, or is closed at once.

    aiohttp takes as many as the process has files for; then no connection to a broker or model server can be opened.

    Invariant: the server has at most `most` connections.
    """

    def __init__(self, server: web.Server, most: int) -> None:
        self._server = server
        self._most = most

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Passes the connection on, or closes it."""
        if len(self._server.connections) >= self._most:
            transport.close()
            return
        handler = self._server()
        cast("asyncio.Transport", transport).set_protocol(handler)
        handler.connection_made(transport)
