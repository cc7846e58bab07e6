"""Watches whether the brokers deliver records and accept answers."""

import asyncio
from collections.abc import Callable

from streamer.kafka.broker_contact import BrokerContact
from streamer.kafka.source import Source

_PERIOD_S = 0.5


class BrokerWatch:
    """Tells an outage of the brokers that the clients' own retries hide."""

    def __init__(self, source: Source, clock: Callable[[], float]) -> None:
        self._source = source
        self._clock = clock
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
            await asyncio.sleep(_PERIOD_S)

    def outage(self) -> str | None:
        """What the brokers have not done, and for how long; None while they do."""
        return self._contact.outage(self._clock())
