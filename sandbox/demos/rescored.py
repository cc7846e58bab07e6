"""Scores requests again on the model server, without the scorer."""

import asyncio
from collections.abc import Sequence

from sandbox.demos.model import DemoError
from sandbox.traffic.recomputed import Question
from streamer.commands.live_model import connected
from streamer.errors import StreamerError
from streamer.serving.verification import verify
from streamer.settings import Settings
from streamer.settings.sections import PredictorSettings
from streamer.types import F32, BatchInputs, ModelVersion


def rescored(predictor: PredictorSettings, questions: Sequence[Question]) -> list[F32]:
    """The scores of each question's n candidates, float32 [n], one call each.

    Raises:
        DemoError: the model server does not answer, or its answer is an error.
    """
    settings = Settings().model_copy(update={"predictor": predictor})
    try:
        return asyncio.run(_rescored(settings, questions))
    except StreamerError as error:
        raise DemoError(f"scores cannot be computed again: {error}") from error


async def _rescored(settings: Settings, questions: Sequence[Question]) -> list[F32]:
    scores = []
    name, timeout_s = settings.predictor.models[0], settings.predictor.control_timeout_ms / 1e3
    async with connected(settings) as client:
        prepared = {
            version: await verify(client.control, settings, ModelVersion(name, version))
            for version in {question.version for question in questions}
        }
        for question in questions:
            one = prepared[question.version]
            encoded = one.encoder.encode(question.request)
            scores.append(await client.score(one.version, BatchInputs.whole(encoded), timeout_s))
    return scores
