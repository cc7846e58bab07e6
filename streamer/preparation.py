"""Makes a model version ready: its spec, its signature, its first calls."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from streamer.codec import Codec
from streamer.errors import BadReplyError, InvalidRequestError
from streamer.features import GROUPS, Encoder, FeatureSpec, Layout
from streamer.paths import nested
from streamer.predictor import Predictor
from streamer.settings import Settings
from streamer.types import BadRecord, BatchInputs, BidRequest, Header, ModelVersion

_BLANK_CANDIDATES = 300


@dataclass(frozen=True, slots=True)
class Serving:
    """A version with the codec and the encoder that its own spec asks for."""

    version: ModelVersion
    codec: Codec
    encoder: Encoder

    @property
    def prior(self) -> float:
        """The click probability to answer with where nothing better is known."""
        return self.encoder.spec.prior


class Preparation:
    """Prepares versions with the requests that came of late, kept raw, because the next spec may read them differently.

    What comes out has been checked against its own signature and has scored before.
    """

    def __init__(self, predictor: Predictor, settings: Settings) -> None:
        self._predictor = predictor
        self._settings = settings
        self._recent: deque[tuple[bytes, Sequence[Header]]] = deque(maxlen=settings.predictor.warmup_requests)

    def remember(self, value: bytes, headers: Sequence[Header]) -> None:
        """Keeps a request for warming the next version."""
        self._recent.append((value, headers))

    async def prepare(self, version: ModelVersion) -> Serving:
        """Reads the version as `read_serving` does, and warms it.

        Raises:
            SpecError, BadReplyError, PredictError: as `read_serving` does, or the version cannot score.
        """
        serving = await read_serving(self._predictor, self._settings, version)
        for request in self._warmup_requests(serving.codec):
            try:
                encoded = serving.encoder.encode(request)
            except InvalidRequestError:
                continue  # it was answered as invalid when it came; here it is only of no use
            await self._predictor.warm(version, BatchInputs.whole(encoded))
        return serving

    def _warmup_requests(self, codec: Codec) -> list[BidRequest]:
        decoded = (codec.decode(value, headers) for value, headers in self._recent)
        recent = [request for request in decoded if not isinstance(request, BadRecord)]
        rows = [orjson.dumps(nested(codec.paths.ad_id, f"warm-up-{i}")) for i in range(_BLANK_CANDIDATES)]
        return recent or [BidRequest("warm-up", {}, _BLANK_CANDIDATES, rows=rows)]


async def read_serving(predictor: Predictor, settings: Settings, version: ModelVersion) -> Serving:
    """Fetches the version's spec and checks its signature against it.

    Raises:
        SpecError: its spec contradicts itself.
        BadReplyError: its signature does not fit its spec.
        PredictError: the server cannot be asked.
    """
    spec = FeatureSpec.from_json(await predictor.feature_spec(version), f"spec of {version}")
    encoder = Encoder(spec, remembered_ads=settings.features.remembered_ads)
    _check_signature(version, encoder.layout, await predictor.score_inputs(version))
    return Serving(version, Codec(settings.codec, spec.request, spec.document_keys, spec.containers), encoder)


def _check_signature(version: ModelVersion, layout: Layout, found: dict[str, int]) -> None:
    """Raises BadReplyError where the `score` signature has other inputs than the version's own spec leads to."""
    widths = {f"{group}_ids": layout.id_width(group) for group in GROUPS}
    widths |= {f"{group}_floats": layout.float_width(group) for group in GROUPS}
    expected = {name: width for name, width in widths.items() if width} | {"row_to_request": 0}
    if found != expected:
        detail = f"{version}: its score signature takes {found}, but its feature spec gives {expected}"
        raise BadReplyError("FAILED_PRECONDITION", detail)
