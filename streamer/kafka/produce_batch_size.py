"""Decides how many bytes a producer may put into one batch. Pure."""

INITIAL_BATCH_BYTES = 2**19
"""Brokers accept 1 MiB by default.

A producer sends one batch of a partition at a time, and each batch wakes every `send` that waits: with one answer in a
batch, the number of wake-ups would be quadratic.
"""
# Messages until a lower limit is doubled. A limit that is rejected again costs a batch and a producer.
_GROW_AFTER = 1000
_MAX_GROW_AFTER = 64_000


class ProduceBatchSize:
    """The largest batch in bytes; halved when the brokers reject several messages together.

    1. Brokers reject the whole batch and do not name their limit. A message larger than the limit has a batch of its
       own.
    2. A lower limit is doubled after 1,000 accepted messages; each time that the higher one is rejected, twice as many
       are needed, at most 64,000.
    """

    def __init__(self) -> None:
        self.bytes = INITIAL_BATCH_BYTES
        self._accepted = 0
        self._grow_after = _GROW_AFTER
        self._has_grown = False

    def rejected(self, message_bytes: int, limit: int) -> bool:
        """The brokers rejected a batch made under `limit` that holds a message of `message_bytes`.

        Returns:
            Whether the message itself is too large. If not, `bytes` is now lower than `limit`.
        """
        if message_bytes >= limit:
            return True
        # Each message of the batch reports the rejection; only the first report halves.
        if self.bytes >= limit:
            self.bytes = max(1, limit // 2)
            self._accepted = 0
            if self._has_grown:
                self._grow_after = min(_MAX_GROW_AFTER, 2 * self._grow_after)
                self._has_grown = False
        return False

    def accepted(self, messages: int = 1) -> None:
        """The brokers accepted messages: `bytes` may be higher now."""
        if self.bytes < INITIAL_BATCH_BYTES:
            self._accepted += messages
            if self._accepted >= self._grow_after:
                self.bytes = min(INITIAL_BATCH_BYTES, 2 * self.bytes)
                self._accepted, self._has_grown = 0, True
