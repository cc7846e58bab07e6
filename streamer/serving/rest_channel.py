"""Calls to a model server's REST API over HTTP/1.1, on connections that stay open."""

import asyncio
import io
import ssl
from typing import Any

import aiohttp
from aiohttp.hdrs import ACCEPT_ENCODING, HOST, USER_AGENT
from yarl import URL

from streamer.errors import PredictError
from streamer.serving.predict_call import message_of
from streamer.serving.rest_messages import failure, http_request, reply
from streamer.serving.transport import MAX_DETAIL, CallHeaders, Rpc

# One connection carries one call at a time. The concurrency limit of the batches is far below this.
_MAX_CONNECTIONS = 256
_MAX_REPLY_BYTES = 16 * 2**20
# aiohttp sends larger bodies in parts, between which other work runs.
_MAX_PART_BYTES = 2**20
# The first bytes of an HTTP/2 server, as aiohttp prints them: the type of a SETTINGS frame.
_SETTINGS_FRAME = r"b'\x00\x00"


class RestChannel:
    """Calls to one address, each on its own connection of a pool.

    - A call that is cancelled or late closes its connection; the server is not told, and may still compute.
    - A reply has at most 16 MiB.
    """

    def __init__(
        self,
        address: str,
        host_and_port: str,
        *,
        tls: ssl.SSLContext | None,
        server_name: str | None,
        host_header: str | None,
        proxy: str | None,
    ) -> None:
        """Needs a running event loop.

        Args:
            host_and_port: where the server is.
            server_name: the name in its certificate, if it is not the host.
            host_header: the name by which the server is called, if it is not the host.
            proxy: the URL of a proxy.
        """
        self.address = address
        self.base_url = f"{'http' if tls is None else 'https'}://{host_and_port}"
        self._server_name, self._proxy = server_name, proxy
        self._active = 0
        self._idle = asyncio.Event()
        self._closed = False
        headers = {ACCEPT_ENCODING: "identity"}
        if host_header is not None:
            headers[HOST] = host_header
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_MAX_CONNECTIONS, ssl=True if tls is None else tls),
            timeout=aiohttp.ClientTimeout(total=None),
            headers=headers,
            skip_auto_headers=(USER_AGENT,),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def call(self, rpc: Rpc, request: Any, seconds: float, headers: CallHeaders = ()) -> Any:
        """As `Channel.call`. Each call asks for one version or label, as its request does."""
        self._active += 1
        try:
            async with asyncio.timeout(seconds):
                status, body = await self._send(*http_request(rpc, message_of(request)), headers)
        except TimeoutError:
            raise PredictError("DEADLINE_EXCEEDED", f"no reply within {1e3 * seconds:.0f} ms") from None
        except (aiohttp.ClientError, OSError, RuntimeError, ValueError) as error:
            raise self._classified(error) from error
        finally:
            self._active -= 1
            if not self._active:
                self._idle.set()
        if status != 200:
            raise failure(status, body)
        return reply(rpc, body)

    async def close(self, grace_s: float | None = None) -> None:
        """Closes the connections, and with them the calls that are active after `grace_s`."""
        self._closed = True
        if self._active and grace_s is not None:
            self._idle.clear()
            try:
                async with asyncio.timeout(grace_s):
                    await self._idle.wait()
            except TimeoutError:
                pass
        await self._session.close()

    async def _send(self, method: str, path: str, body: bytes | None, headers: CallHeaders) -> tuple[int, bytes]:
        """Sends a request; returns status and body of the reply."""
        if self._closed:
            raise PredictError("CLOSED", "the channel is closed")
        async with self._session.request(
            method,
            URL(self.base_url + path, encoded=True),
            data=io.BytesIO(body) if body is not None and len(body) > _MAX_PART_BYTES else body,
            headers=headers or None,
            allow_redirects=False,
            server_hostname=self._server_name,
            proxy=self._proxy,
        ) as response:
            parts: list[bytes] = []
            left = _MAX_REPLY_BYTES
            while part := await response.content.readany():
                left -= len(part)
                if left < 0:
                    response.close()
                    raise PredictError("MESSAGE_TOO_LARGE", f"the reply has more than {_MAX_REPLY_BYTES} bytes")
                parts.append(part)
            return response.status, parts[0] if len(parts) == 1 else b"".join(parts)

    def _classified(self, error: Exception) -> PredictError:
        if self._closed:
            return PredictError("CANCELLED", "the channel was closed during the call")
        text = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
        text = " ".join(text.split()) or type(error).__name__
        if isinstance(error, aiohttp.ClientResponseError):
            if _SETTINGS_FRAME in text:
                speaks = f"{self.address} speaks HTTP/2, as gRPC ports do, and not HTTP/1.1"
                return PredictError(
                    "UNAVAILABLE", f"{speaks}; name the REST port (default 8501) or set predictor.protocol: grpc"
                )
            return PredictError("UNAVAILABLE", f"not HTTP: {text}"[:MAX_DETAIL])
        if isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | OSError):
            return PredictError("UNAVAILABLE", text[:MAX_DETAIL])
        return PredictError("UNKNOWN", f"{error!r:.{MAX_DETAIL}}")
