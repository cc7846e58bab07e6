"""The feature log: encoded rows of a sample of the scored requests, for training."""

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import msgspec
import numpy as np
import xxhash

from streamer.features.served import encode_served
from streamer.prepared_version import PreparedVersion
from streamer.side_outputs.side_output import SideOutput
from streamer.types import EncodedRequest

Publish = Callable[[bytes | None, bytes], Awaitable[None]]
"""Sends a line with the key of its request; returns when the brokers have acknowledged it."""


@dataclass(frozen=True, slots=True)
class FeatureLog:
    """Publishes the rows of a share of the requests, selected by request id.

    A repeated request is therefore in the sample again.
    """

    output: SideOutput
    publish: Publish
    share: float

    def offer(
        self, key: bytes | None, request_id: str, prepared: PreparedVersion, encoded: EncodedRequest, **names: str
    ) -> None:
        """Queues the rows that a request was scored by, if the request is in the sample.

        `names`: for the log, beside the request id.
        """
        if is_sampled(request_id, self.share):
            own = _own(encoded)
            work = partial(self._publish, key, request_id, prepared, own)
            self.output.add(request_id, work, _size(own), **names)

    async def _publish(
        self, key: bytes | None, request_id: str, prepared: PreparedVersion, encoded: EncodedRequest
    ) -> None:
        await self.publish(key, encode_served(request_id, prepared.encoder.spec.hash, prepared.version, encoded))


def _own(encoded: EncodedRequest) -> EncodedRequest:
    """The request with matrices of its own. With shared ones it would keep a whole batch."""
    matrices = {field.name: getattr(encoded, field.name) for field in msgspec.structs.fields(encoded)}
    shared = {name: m.copy() for name, m in matrices.items() if isinstance(m, np.ndarray) and m.base is not None}
    return msgspec.structs.replace(encoded, **shared)


def _size(encoded: EncodedRequest) -> int:
    values = (getattr(encoded, field.name) for field in msgspec.structs.fields(encoded))
    texts = (t for t in (encoded.request_texts, encoded.candidate_texts) if t is not None)
    objects = (*encoded.ad_ids, *(text for some in texts for text in some.ravel().tolist()))
    return sum(v.nbytes for v in values if isinstance(v, np.ndarray)) + sum(map(sys.getsizeof, objects))


def is_sampled(request_id: str, share: float) -> bool:
    """Whether a request is in the sample of `share`, in [0, 1]."""
    return xxhash.xxh3_64_intdigest(request_id.encode(errors="surrogatepass")) < share * 2.0**64
