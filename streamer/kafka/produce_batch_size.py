"""Decides how many bytes a producer may put into one batch. Pure."""

INITIAL_BATCH_BYTES = 2**19
"""Brokers accept 1 MiB by default.

A producer sends one batch of a partition at a time, and each batch wakes every `send` that waits: with one answer in a
batch, the number of wake-ups would be quadratic.
"""


class ProduceBatchSize:
    """The largest batch in bytes; halved when the brokers reject several messages together.

    Brokers reject the whole batch and do not name their limit. A message larger than the limit has a batch of its own.
    """

    def __init__(self) -> None:
        self.bytes = INITIAL_BATCH_BYTES

    def rejected(self, message_bytes: int, limit: int) -> bool:
        """The brokers rejected a batch made under `limit` that holds a message of `message_bytes`.

        Returns:
            Whether the message itself is too large. If not, `bytes` is now lower than `limit`.
        """
        if message_bytes >= limit:
            return True
        # Each message of the batch reports the rejection; only the first report halves.
        self.bytes = min(self.bytes, max(1, limit // 2))
        return False
