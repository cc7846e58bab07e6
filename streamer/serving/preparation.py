"""Makes a model version ready: its spec, its signature, its first calls."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import orjson

from streamer.codec import Codec
from streamer.errors import BadReplyError, InvalidRequestError, SpecError
from streamer.features import GROUPS, Encoder, FeatureSpec, Layout
from streamer.features.paths import nested
from streamer.prepared_version import PreparedVersion
from streamer.serving.flat_signature import FlatSignature
from streamer.serving.messages import SCORE
from streamer.settings import Settings
from streamer.types import BadRecord, BatchInputs, BidRequest, Header, ModelVersion, SignatureInfo, TensorInfo

_BLANK_CANDIDATES = 300


class ModelServers(Protocol):
    """Who knows the versions: `streamer.serving.predictor.Predictor`, which says what is raised."""

    async def available(self, model: str) -> frozenset[int]: ...
    async def labelled(self, model: str, label: str) -> int: ...
    async def feature_spec(self, version: ModelVersion) -> str: ...
    async def signature(self, version: ModelVersion, name: str) -> SignatureInfo: ...
    async def warm(self, version: ModelVersion, inputs: BatchInputs) -> None: ...


class Preparation:
    """Prepares versions with the requests that came of late, kept raw, because the next spec may read them differently.

    What comes out has been checked against its own signature and has scored before.
    """

    def __init__(self, servers: ModelServers, settings: Settings) -> None:
        self._servers = servers
        self._settings = settings
        self._recent: deque[tuple[bytes, Sequence[Header]]] = deque(maxlen=settings.predictor.warmup_requests)

    def remember(self, value: bytes, headers: Sequence[Header]) -> None:
        """Keeps a request for warming the next version."""
        self._recent.append((value, headers))

    async def prepare(self, version: ModelVersion) -> PreparedVersion:
        """Reads the version as `read_serving` does, and warms it.

        Raises:
            SpecError, BadReplyError, PredictError: as `read_serving` does, or the version cannot score.
        """
        serving = await read_serving(self._servers, self._settings, version)
        recent = (serving.codec.decode(value, headers) for value, headers in list(self._recent))
        warmed = False
        for request in recent:
            # Other specs may have read it, or none; what this one cannot read is of no use here.
            if isinstance(request, BadRecord):
                continue
            try:
                encoded = serving.encoder.encode(request)
            except InvalidRequestError:
                continue
            await self._servers.warm(serving.version, BatchInputs.whole(encoded))
            warmed = True
        if not warmed:
            await self._servers.warm(serving.version, BatchInputs.whole(serving.encoder.encode(_blank(serving.codec))))
        return serving


def _blank(codec: Codec) -> BidRequest:
    """A request that says nothing but ad ids."""
    rows = [orjson.dumps(nested(codec.paths.ad_id, f"warm-up-{i}")) for i in range(_BLANK_CANDIDATES)]
    return BidRequest("warm-up", {}, _BLANK_CANDIDATES, rows=rows)


async def read_serving(servers: ModelServers, settings: Settings, version: ModelVersion) -> PreparedVersion:
    """Fetches the version's spec, or reads the file that is set for its model, and checks its signature against it.

    Raises:
        SpecError: its spec contradicts itself, or (from a file) does not fit the version's signature.
        BadReplyError: its signature does not fit its spec.
        PredictError: the server cannot be asked.
    """
    path = settings.predictor.spec_files.get(version.name)
    if path is None:
        spec = FeatureSpec.from_json(await servers.feature_spec(version), f"spec of {version}")
    else:
        spec = FeatureSpec.from_yaml(path)
    encoder = Encoder(spec, memoised_ads=settings.features.memoised_ads)
    if spec.serving is None:
        _check_signature(version, encoder.layout, (await servers.signature(version, SCORE)).inputs)
    else:
        found = await servers.signature(version, spec.serving.signature)
        try:
            version = replace(version, flat=FlatSignature(encoder.layout, spec.serving, found))
        except SpecError as error:
            raise SpecError(f"{path or version}: {error}") from error
    return PreparedVersion(version, Codec(settings.codec, spec.request, spec.document_keys, spec.containers), encoder)


def _check_signature(version: ModelVersion, layout: Layout, found: Mapping[str, TensorInfo]) -> None:
    """Raises BadReplyError where the `score` signature has other inputs than the version's own spec leads to."""
    ids = {f"{group}_ids": TensorInfo("int32", (-1, layout.id_width(group))) for group in GROUPS}
    floats = {f"{group}_floats": TensorInfo("float32", (-1, layout.float_width(group))) for group in GROUPS}
    expected = {name: info for name, info in (ids | floats).items() if info.dims[1]}
    expected["row_to_request"] = TensorInfo("int32", (-1,))
    if dict(found) != expected:
        wrong = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
        detail = f"{version}: its score signature does not fit its feature spec in {', '.join(wrong)}"
        raise BadReplyError("FAILED_PRECONDITION", detail)
