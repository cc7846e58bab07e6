"""Digests of ad ids: 128 bits that stand for an id in a table. Pure."""

from collections.abc import Sequence

import numpy as np
import xxhash

from streamer.types import U64


def digests_of(ad_ids: Sequence[str]) -> U64:
    """The first and the second words of the digests of n ids, uint64 [2, n].

    A digest is the XXH3 (128 bits) of the UTF-8 bytes.
    Two of a million ids share a digest with a probability of 10^-27.
    """
    try:
        found = b"".join(map(xxhash.xxh3_128_digest, map(str.encode, ad_ids)))
    except UnicodeEncodeError:  # a lone surrogate
        found = b"".join(xxhash.xxh3_128_digest(ad_id.encode("utf-8", "surrogatepass")) for ad_id in ad_ids)
    return np.ascontiguousarray(np.frombuffer(found, dtype=np.uint64).reshape(-1, 2).T)
