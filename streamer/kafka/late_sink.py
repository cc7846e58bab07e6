"""A sink for dead letters, connected when there is the first one."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from aiokafka.errors import KafkaError

from streamer.errors import ConfigError
from streamer.kafka.sink import Sink
from streamer.types import DeadLetter

_STOP_S = 2.0


@dataclass(slots=True, eq=False)
class LateSink:
    """A sink for tables of ads, most of which have no bad record and need no producer.

    As `Sink`, it retries without a limit.
    """

    sink: Sink
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock)
    _is_started: bool = False

    async def dead_letter(self, letter: DeadLetter) -> None:
        """Publishes a record unchanged, with its reason and origin in additional headers."""
        async with self._starting:
            while not self._is_started:
                try:
                    await self.sink.start()
                    self._is_started = True
                except (KafkaError, ConfigError, TimeoutError) as error:
                    self.sink.metrics.send_failures.inc()
                    self.sink.log.warning("no connection for dead letters, retried", error=repr(error))
                    await asyncio.sleep(self.sink.settings.retry_ms / 1e3)
        await self.sink.dead_letter(letter)

    async def stop(self) -> None:
        """Disconnects; within 2 s, whatever the brokers do."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                await self.sink.stop()
