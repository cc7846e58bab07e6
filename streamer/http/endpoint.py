"""The HTTP endpoint `POST /v1/score`: one request, one answer."""

import asyncio
import itertools
import logging
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler
from structlog.typing import FilteringBoundLogger

from streamer.access import Access
from streamer.codec import DEADLINE_HEADER, REQUEST_ID_HEADER, header_milliseconds, header_text
from streamer.deadline import Deadline
from streamer.errors import ConfigError
from streamer.formats.content_type import CONTENT_TYPE_HEADER, answer_type, form_of
from streamer.http.admission import Admission, FullError, Place
from streamer.http.bodies import BadBodyError, Body, TooLargeError
from streamer.http.connections import Entry
from streamer.http.exchange import Exchange, Process
from streamer.http.replies import CLIENT_LEFT, RETRY_AFTER, Reply, rejection, reply_to
from streamer.metrics import Metrics
from streamer.settings import Settings
from streamer.settings.deployment import HttpSettings
from streamer.tasks import set_within
from streamer.tracing.context import TRACEPARENT, TRACESTATE, one_of
from streamer.types import Header, Origin, Record

PATH: Final = "/v1/score"
"""The path of the endpoint, and the topic in the origin of its answers: no topic has such a name."""
DEFAULT_PORT: Final = 8080
_KEY = "X-Key"
_HEADERS: Final = (
    ("X-Request-Id", REQUEST_ID_HEADER),
    ("X-Deadline-Ms", DEADLINE_HEADER),
    ("Content-Type", CONTENT_TYPE_HEADER),
)
_TRACE_HEADERS: Final = ((TRACEPARENT, TRACEPARENT), (TRACESTATE, TRACESTATE))
"""Headers of HTTP and the headers of a record that they replace."""
_ENCODINGS: Mapping[str, bool] = {"": False, "identity": False, "gzip": True, "x-gzip": True}
_NO_TIMESTAMP = -1
_SEND_S = 0.5
_IDLE_S = 90.0
"""Longest time in which a connection has no request: longer than load balancers keep theirs. aiohttp's is an hour."""
_HANDSHAKE_S = 10.0
_DRAINING = "draining"


def _is_defect(record: logging.LogRecord) -> bool:
    """False for a malformed request and a client that left: aiohttp logs both with a traceback."""
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError | ConnectionError)


_LOGGER = logging.getLogger("streamer.http")
_LOGGER.addFilter(_is_defect)


class Endpoint:
    """Answers requests while it is open.

    1. A request has one reply; if its client leaves, its rows leave the queue.
    2. The bounds are those of a source: requests, their bytes, and the bytes of one of them. A request above a bound
       gets 503 or 413 at once.
    3. A body that is not complete by the request's deadline, or `source.max_budget_ms`, ends with 408.
    4. At most `http.max_connections` connections are open; one without a request ends after a while.
    """

    def __init__(
        self,
        settings: Settings,
        process: Process,
        metrics: Metrics,
        log: FilteringBoundLogger,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings.http
        self._source = settings.source
        self._max_body_bytes = settings.codec.max_record_bytes
        self._headers = (*_HEADERS, *_TRACE_HEADERS) if settings.tracing.enabled else _HEADERS
        self._shares_port = settings.supervisor.link is not None
        self._process = process
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._admission = Admission(self._source.max_unacknowledged_records, self._source.max_unacknowledged_bytes)
        metrics.http_in_flight.set_function(lambda: self._admission.requests)
        metrics.http_connections.set_function(self._connections)
        self._numbers = itertools.count()
        self._unavailable: str | None = "starting"
        self._idle = asyncio.Event()
        self._access = Access("http", self._settings.host, self._settings.token)
        app = web.Application(middlewares=[self._answer])
        app.router.add_post(PATH, self._score)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            logger=_LOGGER,
            handler_cancellation=True,
            auto_decompress=False,  # aiohttp's has no bound of its own
            shutdown_timeout=_SEND_S,
            keepalive_timeout=_IDLE_S,
        )
        self._listener: asyncio.Server | None = None
        self.port = self._settings.port

    async def start(self) -> None:
        """Starts to listen; requests get 503 until `open`.

        Raises:
            ConfigError: the address is in use or cannot be used, or a TLS file cannot be read.
        """
        settings, tls = self._settings, tls_context(self._settings)
        port = DEFAULT_PORT if settings.port is None else settings.port
        await self._runner.setup()
        assert self._runner.server is not None, "it is set up"
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                partial(Entry, self._runner.server, settings.max_connections),
                settings.host,
                port,
                ssl=tls,
                ssl_handshake_timeout=None if tls is None else _HANDSHAKE_S,
                # The workers of a supervisor share the port; the kernel spreads the connections over them.
                reuse_port=self._shares_port or None,
            )
        except OSError as error:
            raise ConfigError(f"http: cannot listen on {settings.host}:{port}: {error.strerror}") from error
        self.port = self._listener.sockets[0].getsockname()[1]
        self._log.info("http port", host=settings.host, port=self.port)

    def open(self) -> None:
        """Answers requests from now on."""
        self._unavailable = None

    async def close(self) -> None:
        """Accepts no more connections and requests; those in flight go on."""
        self._unavailable = _DRAINING
        if self._listener is not None:
            self._listener.close()
        if self._runner.server is not None:
            self._runner.server.pre_shutdown()
        self._check_idle()

    async def join(self, deadline: Deadline) -> bool:
        """Waits until every request in flight has its reply; False, logged, after the deadline."""
        if await set_within(self._idle, max(0.0, deadline.remaining(self._clock()))):
            return True
        self._log.error("drained in part, requests over HTTP get no reply", requests=self._admission.requests)
        return False

    async def stop(self) -> None:
        """Ends all connections, after the replies that are being sent."""
        if self._listener is not None:
            self._listener.close()
        await self._runner.cleanup()

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Checks the access; counts each request once, by its code."""
        start, code = self._clock(), int(HTTPStatus.INTERNAL_SERVER_ERROR)
        try:
            response = await self._response(request, handler)
            code = response.status
        except asyncio.CancelledError:
            code = CLIENT_LEFT
            raise
        finally:
            self._metrics.http_answered(code, self._clock() - start)
        return response

    async def _response(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if (rejected := self._access.rejection(request.method, request.path, request.headers)) is not None:
            return _sent(rejection(*rejected))
        try:
            return await handler(request)
        except web.HTTPException as error:  # another path or method
            return _sent(rejection(HTTPStatus(error.status), error.reason), allow=error.headers.get("Allow"))

    async def _score(self, request: web.Request) -> web.Response:
        if self._unavailable is not None:
            return _sent(rejection(HTTPStatus.SERVICE_UNAVAILABLE, self._unavailable, closes=True))
        try:
            with self._admission.place() as place:
                reply = await self._reply(request, place)
        except FullError as error:
            reply = rejection(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        except TooLargeError:
            reply = rejection(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large(request), closes=True)
        except BadBodyError as error:
            reply = rejection(HTTPStatus.BAD_REQUEST, f"record: {error}", closes=True)
        except TimeoutError:
            reason = "record: its body was not complete by the deadline"
            reply = rejection(HTTPStatus.REQUEST_TIMEOUT, reason, closes=True)
        finally:
            self._check_idle()
        return _sent(reply)

    async def _reply(self, request: web.Request, place: Place) -> Reply:
        arrival = self._clock()
        headers = _record_headers(request, self._headers)
        encoding = request.headers.get("Content-Encoding", "").lower()
        if (is_gzip := _ENCODINGS.get(encoding)) is None:
            reason = f"Content-Encoding {encoding!a}: only gzip is accepted"
            return rejection(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, reason, closes=True)
        if (request.content_length or 0) > self._max_body_bytes:
            raise TooLargeError
        max_ms = self._source.max_budget_ms
        async with asyncio.timeout(min(header_milliseconds(headers) or max_ms, max_ms) / 1e3):
            value = await self._read(request, Body(self._max_body_bytes, is_gzip=is_gzip), place)
        record = Record(
            _bytes(request.headers.get(_KEY)),
            value,
            headers,
            Origin(PATH, 0, next(self._numbers)),
            _NO_TIMESTAMP,
            Deadline.after(arrival, self._source.budget_ms),
            self._clock(),
        )
        exchange = Exchange()
        result = await self._process(record, exchange)
        reply = reply_to(result, exchange.value, answer_type(exchange.headers))
        traceparent = header_text(exchange.headers, TRACEPARENT) if self._headers is not _HEADERS else None
        return reply if traceparent is None else replace(reply, traceparent=traceparent)

    async def _read(self, request: web.Request, body: Body, place: Place) -> bytes:
        try:
            async for part in request.content.iter_any():
                place.grow(body.add(part))
        except web.RequestPayloadError as error:
            raise BadBodyError(f"its body cannot be read: {error}") from error
        return body.whole()

    def _too_large(self, request: web.Request) -> str:
        """The reason, as in the answer to a record that is too large."""
        size = request.content_length or 0
        limit = self._max_body_bytes
        known = f"{size} bytes, " if size > limit else ""
        return f"record: {known}more than codec.max_record_bytes = {limit}"

    def _connections(self) -> int:
        return 0 if self._runner.server is None else len(self._runner.server.connections)

    def _check_idle(self) -> None:
        if self._unavailable is _DRAINING and not self._admission.requests:
            self._idle.set()


def tls_context(settings: HttpSettings) -> ssl.SSLContext | None:
    """The TLS of the port; None without a certificate.

    Raises:
        ConfigError: certificate or key cannot be read, or do not belong together.
    """
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # Without a password OpenSSL would ask for one on the terminal, and the start would wait for it.
        context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file, "")
    except (OSError, ValueError) as error:
        raise ConfigError(f"http.tls_cert_file, http.tls_key_file: cannot be used: {error}") from error
    return context


def _record_headers(request: web.Request, names: Iterable[tuple[str, str]]) -> tuple[Header, ...]:
    """The headers of the record on a topic, without a content type that means JSON."""
    found = ((of_record, _bytes(one_of(of_http, request.headers.getall(of_http, ())))) for of_http, of_record in names)
    present = tuple((name, value) for name, value in found if value is not None)
    return present if form_of(present) != "json" else tuple(h for h in present if h[0] != CONTENT_TYPE_HEADER)


def _bytes(text: str | None) -> bytes | None:
    """The bytes of a header's text as they were received; None if there are none."""
    return text.encode(errors="surrogateescape") if text else None


def _sent(reply: Reply, *, allow: str | None = None) -> web.Response:
    response = web.Response(body=reply.body, status=reply.status, content_type=reply.content_type)
    if reply.status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = RETRY_AFTER
    if reply.traceparent is not None:
        response.headers[TRACEPARENT] = reply.traceparent
    if allow is not None:
        response.headers["Allow"] = allow
    if reply.closes:
        response.force_close()
    return response
