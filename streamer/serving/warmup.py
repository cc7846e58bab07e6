"""Prepares a model version: verifies it, then warms it with recent requests."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import orjson

from streamer.ads import AdTable, RowForm
from streamer.codec import size_in_memory
from streamer.errors import InvalidRequestError, TableLoadingError
from streamer.features.paths import nested
from streamer.prepared_version import PreparedVersion
from streamer.serving.identity import Identities
from streamer.serving.verification import DescribesVersions, verify
from streamer.settings import Settings
from streamer.types import BadRecord, BatchInputs, BidRequest, Header, ModelVersion

_BLANK_CANDIDATES = 300
_SHOWN_ROWS = 16
_MAX_REMEMBERED_BYTES = 4 * 2**20
_MOST_LOADING = 8


class OpensTables(Protocol):
    """The tables of ads, by the form of their rows."""

    def open(self, form: RowForm, spec_hash: str) -> AdTable:
        """Raises TableLoadingError: it is not loaded yet, and goes on loading."""
        ...


class Preparer:
    """Prepares the versions of one model: each is verified, has its ads and a scored request.

    Recent requests are kept raw, because each spec reads them in its own way.
    """

    def __init__(self, servers: DescribesVersions, settings: Settings, tables: OpensTables | None = None) -> None:
        """`tables`: None if requests contain all features of their ads."""
        self._servers = servers
        self._settings = settings
        self._tables = tables
        # The last versions that had to wait, with their forms and the hashes of their specs.
        self._loading: dict[int, tuple[RowForm, str]] = {}
        self._identities = Identities(servers)
        self._recent: deque[tuple[bytes, Sequence[Header]]] = deque()
        self.remembered_bytes = 0

    def remember(self, value: bytes, headers: Sequence[Header]) -> None:
        """Keeps a raw request, to warm the next version with; the oldest are dropped beyond 4 MiB."""
        self._recent.append((value, headers))
        self.remembered_bytes += size_in_memory(None, value, headers)
        limit = self._settings.predictor.warmup_requests
        while len(self._recent) > limit or self.remembered_bytes > _MAX_REMEMBERED_BYTES:
            self.remembered_bytes -= size_in_memory(None, *self._recent.popleft())

    async def prepare(self, version: ModelVersion) -> PreparedVersion:
        """Verifies a version and warms it.

        Raises:
            SpecError, BadReplyError, PredictError: as `verify`, or the version cannot score.
            TableLoadingError: the table of its spec is not loaded yet.
        """
        prepared = await self._with_ads(version)
        await self._servers.warm(prepared.version, _encoded(prepared, list(self._recent)))
        has_spec = version.name not in self._settings.predictor.spec_files
        version = await self._identities.record(prepared.version, blank_rows(prepared, _SHOWN_ROWS), has_spec=has_spec)
        return replace(prepared, version=version)

    async def _with_ads(self, version: ModelVersion) -> PreparedVersion:
        """Verifies a version, and gives it the table of its spec."""
        if self._tables is None:
            return await verify(self._servers, self._settings, version)
        if (loading := self._loading.pop(version.version, None)) is not None:
            # Asked for at every poll: until the table is loaded, the servers and the encoder have no work.
            self._open(version.version, *loading)
        prepared = await verify(self._servers, self._settings, version)
        encoder = prepared.encoder
        table = self._open(version.version, encoder.row_form(), encoder.spec.hash)
        return prepared.with_ads(table)

    def _open(self, version: int, form: RowForm, spec_hash: str) -> AdTable:
        assert self._tables is not None
        try:
            return self._tables.open(form, spec_hash)
        except TableLoadingError:
            self._loading[version] = form, spec_hash
            if len(self._loading) > _MOST_LOADING:
                del self._loading[next(iter(self._loading))]
            raise

    async def difference(self, version: ModelVersion) -> str | None:
        """Why this number names another object now than when it was prepared.

        None if it does not, or if no server tells.
        """
        return await self._identities.difference(version)


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
        yield blank_rows(prepared, _BLANK_CANDIDATES)


def blank_rows(prepared: PreparedVersion, count: int) -> BatchInputs:
    """The rows of a request with ad ids only, `count` of them."""
    ad_id = prepared.codec.paths.ad_id
    rows = [orjson.dumps(nested(ad_id, f"warm-up-{i}")) for i in range(count)]
    return BatchInputs.whole(prepared.encoder.encode(BidRequest("warm-up", {}, count, rows=rows)))
