"""The serving version of a model, for commands that read it."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streamer.errors import ConfigError, PredictError, SpecError
from streamer.prepared_version import PreparedVersion
from streamer.serving.control import Control
from streamer.serving.predictor import Predictor
from streamer.serving.proxies import proxy_variable
from streamer.serving.verification import verify
from streamer.settings import Settings
from streamer.types import ModelVersion


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Predictor]:
    """A client of the model servers; in the block, their errors become a ConfigError."""
    predictor = Predictor(settings.predictor)
    try:
        yield predictor
    except (PredictError, SpecError) as error:
        # A spec that does not fit has a line for each input.
        *lines, last = str(error).splitlines()
        last = "; ".join([last, *proxied(settings)])
        raise ConfigError("\n".join(f"predictor: {line}" for line in (*lines, last))) from error
    finally:
        await predictor.close()


def proxied(settings: Settings) -> list[str]:
    """A line for each model server that a proxy variable of the environment applies to."""
    found = ((address, proxy_variable(address, os.environ)) for address in settings.predictor.addresses)
    return [f"model server {address}: calls go through the proxy of {name}" for address, name in found if name]


async def served(
    servers: Control, settings: Settings, name: str, asked: ModelVersion | None = None
) -> tuple[PreparedVersion, list[int]]:
    """The labelled or newest version of a model, and all AVAILABLE versions, sorted.

    `asked`: the version to take instead, if it is one of this model.

    Raises:
        ConfigError: no version is AVAILABLE, or not the one asked for.
        SpecError, BadReplyError: its spec or its signature is wrong.
        PredictError: the model server does not answer, or its answer is an error.
    """
    found = await servers.available(name)
    available = sorted(found.somewhere)
    if not available:
        raise ConfigError(f"predictor.models: no version of {name!r} is AVAILABLE")
    if asked is not None and asked.name == name:
        if asked.version not in available:
            shown = ", ".join(map(str, available))
            raise ConfigError(f"version {asked.version} of {name!r} is not AVAILABLE now; {shown} are")
        return await verify(servers, settings, ModelVersion(name, asked.version)), available
    label = settings.predictor.labels.get(name)
    newest = max(found.everywhere, default=available[-1])
    version = newest if label is None else await servers.labelled(name, label)
    return await verify(servers, settings, ModelVersion(name, version)), available
