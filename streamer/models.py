"""The model that serves: asks the server for its versions, prepares the next one, and switches between requests."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
from structlog.typing import FilteringBoundLogger

from streamer.cache import ScoreCache
from streamer.codec import Codec
from streamer.errors import BadReplyError, InvalidRequestError, PredictError, SpecError
from streamer.features import GROUPS, Encoder, FeatureSpec, Layout
from streamer.metrics import Metrics
from streamer.paths import nested
from streamer.predictor import Predictor
from streamer.settings import Settings
from streamer.types import BadRecord, BatchInputs, BidRequest, EncodedRequest, Header, ModelVersion
from streamer.versions import Versions

_BLANK_CANDIDATES = 300


@dataclass(frozen=True, slots=True)
class Serving:
    """A version with the codec and the encoder that its own spec asks for."""

    version: ModelVersion
    codec: Codec
    encoder: Encoder

    @property
    def prior(self) -> float:
        """The click probability to answer with where the model cannot be asked."""
        return self.encoder.spec.prior


class Models:
    """Holds what serves now.

    Invariants: (1) `serving` is replaced as a whole, so that a request sees one version from its decoding to its
    answer; (2) what replaces it has been checked against its own signature and has scored before.
    """

    def __init__(
        self,
        predictor: Predictor,
        settings: Settings,
        cache: ScoreCache | None,
        *,
        metrics: Metrics,
        log: FilteringBoundLogger,
        clock: Callable[[], float],
    ) -> None:
        self._predictor = predictor
        self._settings = settings
        self._cache = cache
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._versions = Versions()
        self._recent: deque[tuple[bytes, Sequence[Header]]] = deque(maxlen=settings.predictor.warmup_requests)
        self.serving: Serving | None = None

    def remember(self, value: bytes, headers: Sequence[Header]) -> None:
        """Keeps a request, raw, for warming the next version, whose spec may read it differently."""
        self._recent.append((value, headers))

    async def refresh(self) -> None:
        """Looks for a better version and switches to it when it is ready.

        Raises:
            PredictError: the server cannot be asked, or serves nothing.
        """
        name = self._settings.predictor.model
        available = await self._predictor.available(name)
        wanted = self._versions.wanted(available, self._clock())
        if wanted is None:
            if self.serving is None:
                raise PredictError("UNAVAILABLE", f"no version of {name!r} is AVAILABLE")
            return
        version = ModelVersion(name, wanted)
        try:
            serving = await self._prepare(version)
        except (PredictError, SpecError) as error:
            self._versions.refuse(wanted, self._clock())
            self._log.error("version not taken", model=str(version), error=str(error))
            if self.serving is None:
                raise
            return
        self._switch(serving)

    async def _prepare(self, version: ModelVersion) -> Serving:
        spec = FeatureSpec.from_json(await self._predictor.feature_spec(version), f"spec of {version}")
        encoder = Encoder(spec, remembered_ads=self._settings.features.remembered_ads)
        codec = Codec(self._settings.codec, spec.request, spec.document_keys, spec.containers)
        _check_signature(version, encoder.layout, await self._predictor.score_inputs(version))
        for request in self._warmup_requests(codec):
            try:
                encoded = encoder.encode(request)
            except InvalidRequestError:
                continue  # it was answered as invalid when it came; here it is only of no use
            await self._predictor.warm(version, _whole(encoded))
        return Serving(version, codec, encoder)

    def _warmup_requests(self, codec: Codec) -> list[BidRequest]:
        decoded = (codec.decode(value, headers) for value, headers in self._recent)
        recent = [request for request in decoded if not isinstance(request, BadRecord)]
        rows = [orjson.dumps(nested(codec.paths.ad_id, f"warm-up-{i}")) for i in range(_BLANK_CANDIDATES)]
        return recent or [BidRequest("warm-up", {}, _BLANK_CANDIDATES, rows=rows)]

    def _switch(self, serving: Serving) -> None:
        before = self.serving
        self.serving = serving
        self._versions.adopt(serving.version.version)
        self._metrics.model_version.labels(serving.version.name).set(serving.version.version)
        if before is not None:
            self._metrics.version_switches.inc()
            if self._cache is not None:
                self._cache.drop(before.version)
        spec = serving.encoder.spec
        self._log.info(
            "model serves",
            model=str(serving.version),
            spec=spec.name,
            spec_hash=spec.hash,
            before=str(before.version) if before else None,
        )


def _whole(encoded: EncodedRequest) -> BatchInputs:
    return BatchInputs(
        request_ids=encoded.request_ids,
        request_floats=encoded.request_floats,
        candidate_ids=encoded.candidate_ids,
        candidate_floats=encoded.candidate_floats,
        pair_ids=encoded.pair_ids,
        row_to_request=np.zeros(encoded.size, dtype=np.int32),
    )


def _check_signature(version: ModelVersion, layout: Layout, found: dict[str, int]) -> None:
    """Raises BadReplyError where the `score` signature has other inputs than the version's own spec leads to."""
    widths = {f"{group}_ids": layout.id_width(group) for group in GROUPS}
    widths |= {f"{group}_floats": layout.float_width(group) for group in GROUPS}
    expected = {name: width for name, width in widths.items() if width} | {"row_to_request": 0}
    if found != expected:
        detail = f"{version}: its score signature takes {found}, but its feature spec gives {expected}"
        raise BadReplyError("FAILED_PRECONDITION", detail)
