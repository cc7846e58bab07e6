"""Scores batches, and reports the outcome of each call to the model of its version."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from streamer.deadline import Deadline
from streamer.errors import PredictError, VersionGoneError
from streamer.rollout.registry import ModelRegistry
from streamer.types import F32, BatchInputs, ModelVersion


class ScoresRows(Protocol):
    """Scores rows; `streamer.serving.predictor.Predictor` says what is raised."""

    async def score(self, version: ModelVersion, inputs: BatchInputs, seconds: float) -> F32: ...


@dataclass(frozen=True, slots=True)
class ReportingScorer:
    """A scorer whose calls judge new versions. Only PredictError leaves `predict`."""

    scorer: ScoresRows
    models: ModelRegistry
    clock: Callable[[], float]
    log: FilteringBoundLogger

    async def predict(self, version: ModelVersion, inputs: BatchInputs, deadline: Deadline) -> F32:
        """Scores n rows, float32 [n].

        Raises:
            PredictError: as `Predictor.score`, or a defect of this program.
        """
        try:
            self.models.of_version(version).check_known(version)
            ctr = await self.scorer.score(version, inputs, deadline.remaining(self.clock()))
        except VersionGoneError as error:
            self.models.call_failed(version, error)
            self.models.poll_now()
            raise
        except PredictError as error:
            self._failed(version, error)
            raise
        except Exception as error:
            # A defect in one call: its requests get priors, the other calls continue. A version can trigger it.
            self.log.exception("call failed", model=str(version), rows=inputs.rows)
            code = "UNKNOWN" if isinstance(error, MemoryError) else "INTERNAL"
            failure = PredictError(code, f"internal error: {error!r:.200}")
            self._failed(version, failure)
            raise failure from error
        self.models.scored(version)
        self.models.of_version(version).scored(version, ctr)
        return ctr

    def _failed(self, version: ModelVersion, error: PredictError) -> None:
        self.models.call_failed(version, error)
        self.models.of_version(version).failed(version, error)
