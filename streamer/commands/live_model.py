"""The model that serves now, for commands that look at it."""

from streamer.errors import ConfigError
from streamer.predictor import Predictor
from streamer.preparation import Serving, read_serving
from streamer.settings import Settings
from streamer.types import ModelVersion


async def newest(predictor: Predictor, settings: Settings, name: str) -> tuple[Serving, list[int]]:
    """The newest version of a model, and the numbers of all that are AVAILABLE, rising.

    Raises:
        ConfigError: there is none.
        SpecError, BadReplyError: its spec or its signature is wrong.
        PredictError: the server cannot be asked.
    """
    available = sorted(await predictor.available(name))
    if not available:
        raise ConfigError(f"predictor.models: no version of {name!r} is AVAILABLE")
    return await read_serving(predictor, settings, ModelVersion(name, available[-1])), available
