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
from streamer.guard import Guard
from streamer.metrics import Metrics
from streamer.paths import nested
from streamer.predictor import Predictor
from streamer.settings import Settings
from streamer.types import F32, BadRecord, BatchInputs, BidRequest, EncodedRequest, Header, ModelVersion
from streamer.versions import Versions

_BLANK_CANDIDATES = 300
# What a version may be to blame for; a server that is gone or full is another matter.
_OWN_FAULT = frozenset({"INVALID_ARGUMENT", "FAILED_PRECONDITION", "INTERNAL", "INVALID_REPLY", "DEADLINE_EXCEEDED"})


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
        self._guard = Guard(settings.guard)
        self._previous: Serving | None = None
        self.serving: Serving | None = None

    def describe(self) -> dict[str, object]:
        """What serves, for an operator."""
        return {
            "model": self._settings.predictor.model,
            "serving": self.serving.version.version if self.serving else None,
            "previous": self._previous.version.version if self._previous else None,
            "pinned_by_operator": self._versions.held,
            "rolled_back": sorted(self._versions.rejected),
        }

    async def pin(self, version: int) -> None:
        """Serves this version, and no newer one, until `unpin`.

        Raises:
            PredictError: the server cannot be asked, has not got it, or it cannot be prepared.
        """
        name = self._settings.predictor.model
        if version not in await self._predictor.available(name):
            raise PredictError("NOT_FOUND", f"version {version} of {name!r} is not AVAILABLE")
        self._versions.hold(version)
        await self.refresh()
        if self.serving is None or self.serving.version.version != version:
            self._versions.release()
            raise PredictError("FAILED_PRECONDITION", f"version {version} of {name!r} cannot be prepared; see the log")

    def unpin(self) -> None:
        """Serves the newest version again; those that were rolled back get another chance."""
        self._versions.release()

    def roll_back(self, reason: str) -> int:
        """Serves the version before this one again, at once; this one does not come back by itself.

        Returns:
            The version that serves now.

        Raises:
            LookupError: there was no other version before.
        """
        bad, good = self.serving, self._previous
        if bad is None or good is None:
            raise LookupError("no other version has served before this one")
        self._versions.reject(bad.version.version)
        self._log.error("version rolled back", model=str(bad.version), to=str(good.version), reason=reason)
        self._metrics.rollbacks.inc()
        self._switch(good, trusted=True)
        self._previous = None
        return good.version.version

    def scored(self, version: ModelVersion, ctr: F32) -> None:
        """A call of a version came back; a new one is judged by it."""
        self._judge(self._guard.scored(version, ctr))

    def failed(self, version: ModelVersion, error: PredictError) -> None:
        """A call of a version failed; a new one is judged by it where it may be its own fault."""
        if error.code in _OWN_FAULT:
            self._judge(self._guard.failed(version))

    def _judge(self, verdict: str | None) -> None:
        if verdict is None:
            return
        if self._previous is None:
            self._log.error("version is not well, and there is none to go back to", reason=verdict)
        else:
            self.roll_back(verdict)

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
        gone = self._versions.pinned not in available
        self._switch(serving, trusted=self._versions.held == wanted)
        if gone:
            self._previous = None  # nothing to go back to

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

    def _switch(self, serving: Serving, *, trusted: bool) -> None:
        before = self.serving
        self._previous = before
        self._guard.watch(serving.version, trusted=trusted or before is None or not self._settings.guard.watched_calls)
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
