"""Digests of ad ids: 128 bits that stand for an id in a table. Pure."""

from collections.abc import Sequence

import numpy as np
import xxhash

from streamer import native
from streamer.ads import Mask
from streamer.types import U64


def digests_of(ad_ids: Sequence[str]) -> U64:
    """The first and the second words of the digests of n ids, uint64 [2, n].

    A digest is the XXH3 (128 bits) of the UTF-8 bytes.
    Two of a million ids share a digest with a probability of 10^-27.
    """
    if native.module is not None:
        digests = np.empty((2, len(ad_ids)), dtype=np.uint64)
        native.module.ad_digests(ad_ids if isinstance(ad_ids, list) else list(ad_ids), digests)
        return digests
    try:
        found = b"".join(map(xxhash.xxh3_128_digest, map(str.encode, ad_ids)))
    except UnicodeEncodeError:  # a lone surrogate
        found = b"".join(xxhash.xxh3_128_digest(ad_id.encode("utf-8", "surrogatepass")) for ad_id in ad_ids)
    return np.ascontiguousarray(np.frombuffer(found, dtype=np.uint64).reshape(-1, 2).T)


def known_ads(slots: U64, digests: U64) -> tuple[Mask, bool]:
    """Which of n slots begin with the digest of their ad, bool [n], and whether all do.

    `slots`: copies, uint64 [n, words]; `digests`: as of `digests_of`.
    """
    if native.module is not None:
        found = np.empty(len(slots), dtype=np.bool_)
        return found, native.module.ads_known(slots, digests, found.view(np.uint8))
    found = (slots[:, 0] == digests[0]) & (slots[:, 1] == digests[1])
    return found, bool(found.all())
