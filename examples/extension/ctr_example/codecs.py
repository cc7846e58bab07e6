"""Requests in MessagePack."""

import msgspec


class MessagePack:
    """Reads requests that are the usual JSON documents, but in MessagePack."""

    content_types = frozenset({"application/msgpack", "application/x-msgpack"})

    def read(self, value: bytes) -> bytes:
        """The request as JSON. Raises ValueError: it is not valid MessagePack."""
        # msgspec's error is a ValueError.
        return msgspec.json.encode(msgspec.msgpack.decode(value))


message_pack = MessagePack()
