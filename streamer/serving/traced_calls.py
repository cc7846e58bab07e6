"""Predict calls, recorded if a request of their batch is sampled. Pure but for the wait."""

from collections.abc import Awaitable
from typing import Any

from streamer.errors import PredictError
from streamer.serving.transport import Channel
from streamer.tracing.recording import BATCH, BatchTrace


def predict(channel: Channel, request: Any, seconds: float) -> Awaitable[Any]:
    """Calls Predict once, as `Channel.call`; for a sampled batch with the context of a span."""
    batch = BATCH.get()
    if batch is None:
        return channel.call("Predict", request, seconds)
    return _traced(batch, channel, request, seconds)


async def _traced(batch: BatchTrace, channel: Channel, request: Any, seconds: float) -> Any:
    context, start, code = batch.call(), batch.recorder.clock(), "CANCELLED"
    try:
        reply = await channel.call("Predict", request, seconds, context.metadata())
        code = "OK"
    except PredictError as error:
        code = error.code
        raise
    finally:
        batch.called(context, channel.address, start, code)
    return reply
