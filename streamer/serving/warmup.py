"""Prepares a model version: verifies it, then warms it with recent requests."""

from collections import deque
from collections.abc import Iterator, Sequence

import orjson

from streamer.codec import Codec
from streamer.errors import InvalidRequestError
from streamer.features.paths import nested
from streamer.prepared_version import PreparedVersion
from streamer.serving.verification import DescribesVersions, verify
from streamer.settings import Settings
from streamer.types import BadRecord, BatchInputs, BidRequest, Header, ModelVersion

_BLANK_CANDIDATES = 300
_MAX_REMEMBERED_BYTES = 4 * 2**20


class Preparer:
    """Prepares the versions of one model: each one is verified, and has scored a request.

    Recent requests are kept raw, because each spec reads them in its own way.
    """

    def __init__(self, servers: DescribesVersions, settings: Settings) -> None:
        self._servers = servers
        self._settings = settings
        self._recent: deque[tuple[bytes, Sequence[Header]]] = deque()
        self.remembered_bytes = 0

    def remember(self, value: bytes, headers: Sequence[Header]) -> None:
        """Keeps a raw request, to warm the next version with; the oldest are dropped beyond 4 MiB."""
        self._recent.append((value, headers))
        self.remembered_bytes += _size(value, headers)
        limit = self._settings.predictor.warmup_requests
        while len(self._recent) > limit or self.remembered_bytes > _MAX_REMEMBERED_BYTES:
            self.remembered_bytes -= _size(*self._recent.popleft())

    async def prepare(self, version: ModelVersion) -> PreparedVersion:
        """Verifies a version and warms it.

        Raises:
            SpecError, BadReplyError, PredictError: as `verify`, or the version cannot score.
        """
        prepared = await verify(self._servers, self._settings, version)
        await self._servers.warm(prepared.version, _encoded(prepared, list(self._recent)))
        return prepared


def _encoded(prepared: PreparedVersion, recent: Sequence[tuple[bytes, Sequence[Header]]]) -> Iterator[BatchInputs]:
    """The recent requests that the version's spec can read, or a request with ad ids only."""
    is_blank = True
    for value, headers in recent:
        request = prepared.codec.decode(value, headers)
        # Another spec may have read this request; this one cannot.
        if isinstance(request, BadRecord):
            continue
        try:
            encoded = prepared.encoder.encode(request)
        except InvalidRequestError:
            continue
        is_blank = False
        yield BatchInputs.whole(encoded)
    if is_blank:
        yield BatchInputs.whole(prepared.encoder.encode(_blank_request(prepared.codec)))


def _size(value: bytes, headers: Sequence[Header]) -> int:
    return len(value) + sum(len(name) + len(content or b"") for name, content in headers)


def _blank_request(codec: Codec) -> BidRequest:
    """A request with ad ids only."""
    rows = [orjson.dumps(nested(codec.paths.ad_id, f"warm-up-{i}")) for i in range(_BLANK_CANDIDATES)]
    return BidRequest("warm-up", {}, _BLANK_CANDIDATES, rows=rows)
