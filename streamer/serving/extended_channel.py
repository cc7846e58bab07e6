"""Keeps the promises of `Channel` for a channel of another package."""

import asyncio
from collections.abc import Mapping
from typing import Any

from streamer.errors import BadReplyError, ConfigError, PredictError
from streamer.extensions import load
from streamer.serving.predict_call import message_of
from streamer.serving.transport import MAX_DETAIL, CallHeaders, Channel, ChannelFactory, ChannelOptions, Rpc

_MEMBERS = ("call", "close")


class ExtendedChannel:
    """A channel of another package, whose faults become failed calls.

    Invariants: (1) a call ends at its timeout; (2) it raises nothing but PredictError, or CancelledError of the caller;
    (3) a reply is a message of the method.
    """

    def __init__(self, address: str, channel: Channel, replies: Mapping[Rpc, type[Any]]) -> None:
        """`replies`: the class of each method's reply."""
        self.address = address
        self._channel = channel
        self._replies = replies

    async def call(self, rpc: Rpc, request: Any, seconds: float, headers: CallHeaders = ()) -> Any:
        """As `Channel.call`."""
        try:
            async with asyncio.timeout(seconds):
                reply = await self._channel.call(rpc, message_of(request), seconds, headers)
        except (PredictError, MemoryError):
            raise
        except TimeoutError:
            raise PredictError("DEADLINE_EXCEEDED", f"no reply within {seconds * 1e3:.0f} ms") from None
        except Exception as error:
            raise PredictError("UNKNOWN", f"{error!r:.{MAX_DETAIL}}") from error
        if not isinstance(reply, self._replies[rpc]):
            raise BadReplyError("INVALID_REPLY", f"the reply to {rpc} is of type {type(reply).__name__}")
        return reply

    async def close(self, grace_s: float | None = None) -> None:
        """As `Channel.close`."""
        await self._channel.close(grace_s)


class ExtendedConnector:
    """Makes the channels of the protocol `name`."""

    def __init__(self, name: str, replies: Mapping[Rpc, type[Any]]) -> None:
        """Raises ConfigError: the protocol is not installed or broken."""
        self._name = name
        self._replies = replies
        self._factory: ChannelFactory = load("ctr_streamer.predictors", name)

    def channel(self, address: str, options: ChannelOptions) -> ExtendedChannel:
        """A channel to an address.

        Raises:
            ConfigError: the factory fails, or its channel has no `call` or no `close`.
        """
        where = f"predictor.protocol {self._name!r}: {address}"
        try:
            channel = self._factory(address, options)
        except Exception as error:
            raise ConfigError(
                f"{where}: {type(error).__name__}: {' '.join(str(error).split()):.{MAX_DETAIL}}"
            ) from error
        if missing := [member for member in _MEMBERS if not hasattr(channel, member)]:
            raise ConfigError(f"{where}: its channel {type(channel).__name__} has no {missing[0]}")
        return ExtendedChannel(address, channel, self._replies)
