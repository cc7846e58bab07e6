"""Waiting for an event, but not for ever."""

import asyncio
from contextlib import suppress


async def set_within(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event is set by then; returns as soon as it is.

    Not `asyncio.wait_for`: Python 3.11's takes no notice of a cancellation that comes together with the event.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
