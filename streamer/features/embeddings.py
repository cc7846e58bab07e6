"""Features that share rows of the fused table, and dimensions of embeddings. Pure."""

from collections.abc import Mapping
from typing import Any

from streamer.features.kinds import Categorical, Cross, HashedFeature, MultiValued

ADDED: Mapping[str, object] = {"by": None, "embedding_dim": None, "shares": None, "missing_indicator": False}
"""Settings of a feature that earlier versions did not have. With these values a spec has the hash of those versions."""


def check_embedding(feature: HashedFeature | Cross, by_name: Mapping[str, Any]) -> None:
    """Rejects a dimension without an embedding, and rows that cannot be shared.

    Raises:
        ValueError: names the feature.
    """
    where = f"feature {feature.name!r}"
    if feature.embedding_dim is not None and not feature.deep:
        raise ValueError(f"{where}: embedding_dim is only for a deep feature")
    if not isinstance(feature, Categorical | MultiValued) or feature.shares is None:
        return
    owner = by_name.get(feature.shares)
    if not isinstance(owner, Categorical | MultiValued) or not owner.buckets or not owner.deep:
        raise ValueError(f"{where}: shares: {feature.shares!r} is not a deep feature with buckets")
    if feature.embedding_dim is not None:
        raise ValueError(f"{where}: embedding_dim: it is that of {owner.name!r}, whose rows it shares")
    if isinstance(feature, Categorical) and isinstance(owner, MultiValued):
        # A multi-valued feature has no row for a missing value. A ValueError, because pydantic gives it a place.
        raise ValueError(  # noqa: TRY004
            f"{where}: shares: {owner.name!r} is multi_valued; let {owner.name!r} share the rows of {feature.name!r}"
        )
