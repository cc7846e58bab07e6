"""How much a producer may put into one batch."""

START_BYTES = 2**19
"""Brokers take 1 MiB unless told otherwise.

A producer has one batch of a partition on its way at a time, and each that leaves wakes every `send` that waits: with
one answer a batch, their number is quadratic.
"""


class ProduceBatchSize:
    """Bytes of a batch: halved when the brokers find one of several messages too large for its topic.

    They refuse the whole batch and do not say what they would take. A message larger than the limit is alone in its
    batch.
    """

    def __init__(self) -> None:
        self.bytes = START_BYTES

    def __repr__(self) -> str:
        return f"<ProduceBatchSize {self.bytes}>"

    def refused(self, message_bytes: int, limit: int) -> bool:
        """A batch was refused that had been made under `limit` and held a message of so many bytes.

        Returns:
            Whether the message itself is too large. Otherwise the limit is lower now than `limit`.
        """
        if message_bytes >= limit:
            return True
        # Each message of the batch is refused on its own; only the first one halves.
        self.bytes = min(self.bytes, max(1, limit // 2))
        return False
