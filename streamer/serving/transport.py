"""What the client asks of a connection to one model server, by gRPC or by REST. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from streamer.errors import PredictError, VersionGoneError

if TYPE_CHECKING:
    from ssl import SSLContext

Rpc = Literal["Predict", "GetModelMetadata", "GetModelStatus"]
CallHeaders = Sequence[tuple[str, str]]
MAX_DETAIL = 300
"""Characters of a server's error text that are kept."""


class Channel(Protocol):
    """A connection to one address. Requests and replies are TensorFlow Serving's messages.

    A channel of this package also takes a `PredictCall`.

    Attributes:
        address: the address, as in `predictor.addresses` or as a name leads to it.
    """

    address: str

    async def call(self, rpc: Rpc, request: Any, seconds: float, headers: CallHeaders = ()) -> Any:
        """Calls a method once, with a timeout, and returns the reply. `headers`: gRPC's metadata.

        Raises:
            VersionGoneError: the server does not have the model, the version or the label's version.
            BadReplyError: the reply cannot be decoded.
            PredictError: the call failed. The code is a gRPC status, MESSAGE_TOO_LARGE, or CLOSED after `close`.
        """

    async def close(self, grace_s: float | None = None) -> None:
        """Closes the connection, and cancels the calls that are active after `grace_s`."""


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """How to connect to an address.

    Attributes:
        name: the host and the port that led to the address, for a `dns:///` address that has been resolved.
        tls: the files of `predictor.tls_…`; None without TLS.
        server_name: the name in the server's certificate, if it is not that of the address.
    """

    name: tuple[str, int] | None = None
    tls: "SSLContext | None" = None
    server_name: str | None = None


class ChannelFactory(Protocol):
    """Makes the channels of a protocol of another package: of group `ctr_streamer.predictors`."""

    def __call__(self, address: str, options: ChannelOptions, /) -> Channel:
        """A channel to an address; it waits for no connection.

        Raises:
            ValueError: the address cannot be used.
        """


def classified(code: str, detail: str) -> PredictError:
    """The error of a call that ended with this gRPC status."""
    detail = detail[:MAX_DETAIL]
    if code == "NOT_FOUND":
        return VersionGoneError(code, detail)
    # The code of a full server, although this one is not full: a smaller message succeeds.
    if code == "RESOURCE_EXHAUSTED" and "message larger than max" in detail:
        return PredictError("MESSAGE_TOO_LARGE", detail)
    # Nor is this one: its memory does not suffice for the call, and each call that is sent again costs it as much.
    if code == "RESOURCE_EXHAUSTED" and "OOM when allocating" in detail:
        return PredictError("INTERNAL", detail)
    return PredictError(code, detail)
