"""Watches whether the brokers deliver records and accept answers."""

import asyncio
from collections.abc import Callable

from streamer.kafka.broker_contact import BrokerContact
from streamer.kafka.security import rejection
from streamer.kafka.source import Source
from streamer.settings.deployment import KafkaSettings

_PERIOD_S = 0.5


class BrokerWatch:
    """Tells an outage of the brokers that the clients' own retries hide."""

    def __init__(self, source: Source, clock: Callable[[], float], settings: KafkaSettings) -> None:
        self._source = source
        self._clock = clock
        self._settings = settings
        self._rejection: str | None = None
        self._contact = BrokerContact(clock(), clock())

    async def run(self) -> None:
        """Looks several times a second; until cancelled."""
        offsets, lag = self._source.offsets, self._source.lag
        while True:
            self._contact.observe(
                self._clock(),
                lag.fetches(),
                acknowledged=offsets.acknowledgements,
                unacknowledged=offsets.unacknowledged,
            )
            is_silent = self._contact.outage(self._clock()) is not None
            self._rejection = await rejection(self._settings) if is_silent else None
            await asyncio.sleep(_PERIOD_S)

    def outage(self) -> str | None:
        """What the brokers have not done, for how long, and why if they say so; None while they do."""
        found = self._contact.outage(self._clock())
        return found if found is None or self._rejection is None else f"{found}: {self._rejection}"
