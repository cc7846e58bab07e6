"""The models that are served side by side, each with versions of its own."""

from collections.abc import Sequence

from streamer.errors import PredictError
from streamer.prepared_version import PreparedVersion
from streamer.rollout.controller import Model
from streamer.types import F32, Header, ModelVersion


class Models:
    """Some models, at least one; the first one answers the requests that name none."""

    def __init__(self, models: Sequence[Model]) -> None:
        self._models = {model.name: model for model in models}
        self.default = models[0]

    @property
    def names(self) -> tuple[str, ...]:
        """The names that a request may give, the default one first."""
        return tuple(self._models)

    def of(self, name: str) -> Model | None:
        """The model of this name; None if there is none."""
        return self._models.get(name)

    def describe(self) -> list[dict[str, object]]:
        """What serves, for an operator."""
        return [model.describe() for model in self._models.values()]

    async def refresh(self) -> None:
        """Has every model look for a better version.

        Raises:
            PredictError: the server cannot be asked, or serves no version of a model; the others have looked all the
                same.
        """
        failure: PredictError | None = None
        for model in self._models.values():
            try:
                await model.refresh()
            except PredictError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def remember(self, version: ModelVersion, value: bytes, headers: Sequence[Header]) -> None:
        """Keeps a request, raw, for warming the next version of a model."""
        self._models[version.name].remember(value, headers)

    def shadow_for(self, serving: ModelVersion, key: bytes | None) -> PreparedVersion | None:
        """What scores a request too that `serving` has answered; None if nothing else does."""
        shadow = self._models[serving.name].shadow_for(key)
        return None if shadow is None or shadow.version == serving else shadow

    def scored(self, version: ModelVersion, ctr: F32) -> None:
        """A call of a version came back; a new one is judged by it."""
        self._models[version.name].scored(version, ctr)

    def failed(self, version: ModelVersion, error: PredictError) -> None:
        """A call of a version failed; a new one is judged by it where it may be its own fault."""
        self._models[version.name].failed(version, error)
