"""The models of a worker, and the loop that polls the servers for their versions."""

import asyncio
from collections.abc import Sequence

from structlog.typing import FilteringBoundLogger

from streamer.errors import PredictError
from streamer.prepared_version import PreparedVersion
from streamer.rollout.controller import ModelController
from streamer.rollout.orders import ModelOrders
from streamer.rollout.scoring_health import ScoringHealth
from streamer.tasks import set_within
from streamer.types import ModelVersion

# A vanished version fails several batches; one poll serves them all.
_MIN_POLL_S = 0.05


class ModelRegistry:
    """The models by name, at least one; the first one answers the requests that name none."""

    def __init__(self, models: Sequence[ModelController], *, poll_s: float, log: FilteringBoundLogger) -> None:
        self._models = {model.name: model for model in models}
        self._health = {model.name: ScoringHealth() for model in models}
        self.default = models[0]
        for model in models:
            model.metrics.rollbacks.labels(model.name)  # the alert needs the 0 before the first rollback
        self._poll_s = poll_s
        self._log = log
        self._poll_now = asyncio.Event()

    @property
    def names(self) -> tuple[str, ...]:
        """The names that a request may give, the default one first."""
        return tuple(self._models)

    def of(self, name: str) -> ModelController | None:
        """The model of this name; None if there is none."""
        return self._models.get(name)

    def of_version(self, version: ModelVersion) -> ModelController:
        """The model of a version."""
        return self._models[version.name]

    def describe(self) -> list[dict[str, object]]:
        """The versions of each model and their roles."""
        return [model.describe() for model in self._models.values()]

    async def adopt(self, orders: Sequence[ModelOrders]) -> None:
        """Takes over the orders of the models that are served here.

        Raises:
            PredictError: as `ModelController.adopt`, for one model; the others have taken theirs over.
        """
        failure: PredictError | None = None
        for each in orders:
            try:
                if (model := self._models.get(each.model)) is not None:
                    await model.adopt(each)
            except PredictError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def shadow_for(self, serving: ModelVersion, key: bytes | None) -> PreparedVersion | None:
        """The shadow version for a request that `serving` has answered; None if there is none."""
        shadow = self.of_version(serving).shadow_for(key)
        return None if shadow is None or shadow.version == serving else shadow

    def scored(self, version: ModelVersion) -> None:
        """A call returned scores of this version."""
        self._health[version.name].scored(self.default.clock())

    def call_failed(self, version: ModelVersion, error: PredictError) -> None:
        """A call to this version failed."""
        self._health[version.name].call_failed(self.default.clock(), str(error))

    def outage(self) -> str | None:
        """The outage of the first model if no model can be scored; None if one can."""
        now = self.default.clock()
        found = {name: health.outage(now) for name, health in self._health.items()}
        return None if None in found.values() else f"no scores of {self.default.name} {found[self.default.name]}"

    async def refresh(self) -> None:
        """Lets every model look for a better version.

        Raises:
            PredictError: for one model the servers cannot be asked or serve nothing; the others have looked as well.
        """
        # Concurrently: a server that hangs during one model's preparation must not delay another model's switch.
        outcomes = await asyncio.gather(*map(self._refresh, self._models.values()), return_exceptions=True)
        if failures := [outcome for outcome in outcomes if outcome is not None]:
            raise min(failures, key=lambda failure: isinstance(failure, PredictError))  # a defect first

    async def _refresh(self, model: ModelController) -> None:
        """Lets one model look for a better version."""
        try:
            await model.refresh()
        except PredictError as error:
            self._health[model.name].poll_failed(model.clock(), str(error))
            raise
        self._health[model.name].polled()

    def poll_now(self) -> None:
        """Ends the pause between two polls, because a serving version has vanished."""
        self._poll_now.set()

    async def poll(self) -> None:
        """Looks for better versions at every poll interval; until cancelled."""
        while True:
            if await set_within(self._poll_now, self._poll_s):
                self._log.warning("a serving version has vanished, looking for another one")
            self._poll_now.clear()
            try:
                await self.refresh()
            except PredictError as error:
                self._log.warning("the model servers cannot be asked for their versions", error=str(error))
            await asyncio.sleep(_MIN_POLL_S)
