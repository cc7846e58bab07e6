"""Produces the catalogue to the topic of ads, and its changes while traffic runs."""

import threading
import time
from typing import Self

import numpy as np
from confluent_kafka import KafkaError, Message, Producer

from sandbox.errors import SandboxError
from sandbox.traffic.ad_history import AdHistory
from sandbox.traffic.schedule import arrival_times, run_schedule
from sandbox.world.ad_changes import AdChange, AdChanges

_FLUSH_S = 120.0
_POLL_S = 0.05


class AdsError(SandboxError):
    """The broker has not stored a record of the topic of ads."""


class AdPublisher:
    """The producer of the topic of ads; `history` receives all that the broker has stored.

    As a context manager it sends `rate` changes/s from its own thread. The block's end waits for acknowledgements.
    """

    def __init__(
        self, bootstrap: str, topic: str, changes: AdChanges, *, rate: float = 0.0, history: AdHistory | None = None
    ) -> None:
        self._topic, self._changes, self._rate, self._history = topic, changes, rate, history
        self._stop, self._failure = threading.Event(), ""
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                # Kafka's own partitioner, so that all producers put an ad into the same partition.
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "linger.ms": 5,
                "log_level": 2,
            }
        )
        self._thread = threading.Thread(target=self._run, name=f"changes of {topic}", daemon=True)

    def publish_catalogue(self) -> int:
        """Produces all ads of the start; returns their number when the broker has stored them.

        Raises:
            AdsError: it has not stored all.
        """
        count = 0
        for change in self._changes.catalogue():
            self._produce(change)
            count += 1
        self._flush()
        return count

    def __enter__(self) -> Self:
        if self._rate:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_FLUSH_S)
        try:
            self._flush()
        except AdsError:
            if kind is None:
                raise

    def _run(self) -> None:
        dues = arrival_times(self._rate, 0.0, "poisson", np.random.default_rng(0))
        try:
            run_schedule(
                dues, lambda _: self._produce(self._changes.next()), clock=time.monotonic, wait=self._stop.wait
            )
        except Exception as error:  # noqa: BLE001 - the end of the block raises it
            self._failure = self._failure or str(error)

    def _produce(self, change: AdChange) -> None:
        def stored(error: KafkaError | None, message: Message) -> None:
            partition, offset = message.partition(), message.offset()
            if error is not None or partition is None or offset is None:
                self._failure = self._failure or str(error)
            elif self._history is not None:
                self._history.add(change, partition, offset)

        while True:
            try:
                self._producer.produce(self._topic, change.value, change.key, on_delivery=stored)
                break
            except BufferError:
                self._producer.poll(_POLL_S)
        self._producer.poll(0)

    def _flush(self) -> None:
        left = self._producer.flush(_FLUSH_S)
        if left or self._failure:
            raise AdsError(f"topic {self._topic}: {self._failure or f'{left} records not acknowledged'}")
