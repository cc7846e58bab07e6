"""Where the labels of a model lead now. What stands in the way is logged once, not at every look."""

from structlog.typing import FilteringBoundLogger

from streamer.errors import PredictError
from streamer.serving.preparation import ModelServers


class Labels:
    """The labels of one model, as its servers have them."""

    def __init__(self, servers: ModelServers, model: str, log: FilteringBoundLogger) -> None:
        self._servers = servers
        self._model = model
        self._log = log
        self._failures: dict[str, str] = {}

    async def version_of(self, label: str) -> int | None:
        """The version that a label leads to; None while the servers cannot say it with one voice."""
        try:
            version = await self._servers.labelled(self._model, label)
        except PredictError as error:
            if self._failures.get(label) != str(error):
                self._log.warning("label not followed", model=self._model, label=label, error=str(error))
            self._failures[label] = str(error)
            return None
        self._failures.pop(label, None)
        return version

    def failure(self, label: str) -> str | None:
        """Why the label did not lead anywhere when it was last looked at."""
        return self._failures.get(label)
