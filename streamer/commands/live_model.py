"""The model that serves now, for commands that look at it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streamer.errors import ConfigError, PredictError, SpecError
from streamer.prepared_version import PreparedVersion
from streamer.serving.control import Control
from streamer.serving.predictor import Predictor
from streamer.serving.verification import verify
from streamer.settings import Settings
from streamer.types import ModelVersion


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Predictor]:
    """A client of the model servers for the block. Errors of servers and models become a ConfigError."""
    predictor = Predictor(settings.predictor)
    try:
        yield predictor
    except (PredictError, SpecError) as error:
        raise ConfigError(f"predictor: {error}") from error
    finally:
        await predictor.close()


async def served(servers: Control, settings: Settings, name: str) -> tuple[PreparedVersion, list[int]]:
    """The version of a model that its label leads to, by default the newest; and all that are AVAILABLE, rising.

    Raises:
        ConfigError: there is none.
        SpecError, BadReplyError: its spec or its signature is wrong.
        PredictError: the server cannot be asked.
    """
    available = sorted(await servers.available(name))
    if not available:
        raise ConfigError(f"predictor.models: no version of {name!r} is AVAILABLE")
    label = settings.predictor.labels.get(name)
    version = available[-1] if label is None else await servers.labelled(name, label)
    return await verify(servers, settings, ModelVersion(name, version)), available
