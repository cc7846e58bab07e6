"""Counts on sampled requests which features have a value."""

from dataclasses import dataclass, field
from weakref import ReferenceType, ref

from structlog.typing import FilteringBoundLogger

from streamer.features import Encoder
from streamer.metrics import Metrics
from streamer.prepared_version import PreparedVersion
from streamer.types import BidRequest

FIRST = 200
"""Each version counts its first requests, so that a wrong path is logged soon."""
STEP = 128
"""Later it counts one request of this many."""
CANDIDATES = 8
"""Candidates that are counted in a request, evenly spread."""
LOGGED = 20
"""Features without a value that are logged for each version; the lines have the number of all."""
_VERSIONS = 4  # the serving, the incoming, the previous, and a canary


@dataclass(slots=True)
class _Tally:
    """The counts of one version; `left`: requests until the next one that is counted.

    `present` has the values by feature of the encoder, `shown` the counts of its features in the metrics.
    `encoder` is a weak reference: the encoder keeps the version's table of ads in memory.
    """

    encoder: ReferenceType[Encoder]
    present: list[int]
    shown: list[list[int]]
    left: int = 1
    requests: int = 0
    has_failed: bool = False


@dataclass(slots=True)
class LiveCoverage:
    """Counts the values of sampled requests of one model, in the metrics.

    The features without a value in the first requests of a version are logged once. A request that cannot be counted
    is scored all the same; the first such error of a version is logged.
    """

    metrics: Metrics
    log: FilteringBoundLogger
    _tallies: dict[int, _Tally] = field(default_factory=dict)

    def offer(self, prepared: PreparedVersion, request: BidRequest) -> None:
        """Counts a request that `prepared` has encoded, if its turn has come."""
        tally = self._tallies.get(prepared.version.version)
        if tally is None or tally.encoder() is not prepared.encoder:
            tally = self.begin(prepared)
        tally.left -= 1
        if tally.left:
            return
        try:
            self._count(tally, prepared, request)
        except Exception:
            tally.left = STEP
            if not tally.has_failed:
                tally.has_failed = True
                self.log.exception("features not counted", model=str(prepared.version))

    def begin(self, prepared: PreparedVersion) -> _Tally:
        """The counts of a version; its features are in the metrics from now on."""
        encoder, model = prepared.encoder, prepared.version
        tally = self._tallies.pop(model.version, None)
        if tally is None or tally.encoder() is not encoder:
            shown = [self.metrics.feature_values.of(model.name, feature.name) for feature in encoder.read_features]
            tally = _Tally(ref(encoder), [0] * len(shown), shown)
        if len(self._tallies) == _VERSIONS:
            del self._tallies[next(iter(self._tallies))]
        self._tallies[model.version] = tally
        return tally

    def _count(self, tally: _Tally, prepared: PreparedVersion, request: BidRequest) -> None:
        found = prepared.encoder.present(request, CANDIDATES)
        for i, (flags, shown) in enumerate(zip(found, tally.shown, strict=True)):
            count = sum(flags)
            tally.present[i] += count
            shown[0] += len(flags)
            shown[1] += count
        tally.requests += 1
        tally.left = 1 if tally.requests < FIRST else STEP
        if tally.requests == FIRST:
            self._warn(tally, prepared)

    def _warn(self, tally: _Tally, prepared: PreparedVersion) -> None:
        """Without a search for similar paths, which would take the event loop milliseconds."""
        counted = zip(prepared.encoder.read_features, tally.present, strict=True)
        missing = [feature for feature, count in counted if not count]
        for feature in missing[:LOGGED]:
            self.log.warning(
                "feature has no value",
                model=str(prepared.version),
                feature=feature.name,
                path=feature.path,
                side=feature.side,
                requests=FIRST,
                missing_features=len(missing),
            )
