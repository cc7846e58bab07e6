"""Calls of the models. Each judges its version; one whose version is gone has another one looked for at once."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from streamer.deadline import Deadline
from streamer.errors import PredictError, VersionGoneError
from streamer.rollout.models import Models
from streamer.tasks import set_within
from streamer.types import F32, BatchInputs, ModelVersion

# A version that is gone fails every batch: they ask for another one together.
_LOOK_AGAIN_S = 0.05


class Scorer(Protocol):
    """Who scores rows: `streamer.serving.predictor.Predictor`, which says what is raised."""

    async def score(self, version: ModelVersion, inputs: BatchInputs, seconds: float) -> F32: ...


class Calls:
    """Scores batches, and keeps looking for better versions.

    Promise: nothing but PredictError leaves `predict`, and what it says of a version reaches the version's model.
    """

    def __init__(
        self,
        scorer: Scorer,
        models: Models,
        *,
        poll_s: float,
        clock: Callable[[], float],
        log: FilteringBoundLogger,
    ) -> None:
        self._scorer = scorer
        self._models = models
        self._poll_s = poll_s
        self._clock = clock
        self._log = log
        self._look_now = asyncio.Event()

    async def predict(self, version: ModelVersion, inputs: BatchInputs, deadline: Deadline) -> F32:
        """Scores n rows, float32 [n].

        Raises:
            PredictError: as `Predictor.score` does, or a bug of ours.
        """
        try:
            ctr = await self._scorer.score(version, inputs, deadline.remaining(self._clock()))
        except VersionGoneError:
            self._look_now.set()
            raise
        except PredictError as error:
            self._models.failed(version, error)
            raise
        except Exception as error:
            # A bug of ours in one call: its requests get priors, the others go on.
            self._log.exception("call failed", model=str(version), rows=inputs.rows)
            raise PredictError("UNKNOWN", f"internal error: {error!r:.200}") from error
        self._models.scored(version, ctr)
        return ctr

    async def watch(self) -> None:
        """Looks for a better version every now and then, and at once when one that serves is gone; until cancelled."""
        while True:
            if await set_within(self._look_now, self._poll_s):
                self._log.warning("the version that serves is gone, looking for another")
            self._look_now.clear()
            try:
                await self._models.refresh()
            except PredictError as error:
                self._log.warning("model server cannot be asked for its versions", error=str(error))
            await asyncio.sleep(_LOOK_AGAIN_S)
