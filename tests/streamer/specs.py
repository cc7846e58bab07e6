"""A small spec with every kind of feature, and random JSON for it."""

from functools import cache

from hypothesis import strategies as st

from streamer.features import FeatureSpec

SMALL: dict[str, object] = {
    "name": "small",
    "embedding_dim": 4,
    "prior": 0.02,
    "features": [
        {"name": "user", "path": "user.id", "side": "user", "kind": "categorical", "buckets": 97, "wide": True},
        {
            "name": "sex",
            "path": "user.sex",
            "side": "user",
            "kind": "categorical",
            "vocabulary": ["f", "m"],
            "deep": True,
        },
        {
            "name": "likes",
            "path": "user.likes",
            "side": "user",
            "kind": "multi_valued",
            "buckets": 31,
            "max_values": 3,
            "deep": True,
        },
        {
            "name": "hour",
            "path": "context.hour",
            "side": "context",
            "kind": "categorical",
            "buckets": 24,
            "default": "12",
            "deep": True,
        },
        {
            "name": "age",
            "path": "user.age",
            "side": "user",
            "kind": "bucketised",
            "boundaries": [18, 30.5, 65],
            "wide": True,
        },
        {
            "name": "pace",
            "path": "context.pace",
            "side": "context",
            "kind": "numeric",
            "mean": 1.0,
            "std": 2.0,
            "deep": True,
        },
        {
            "name": "campaign",
            "path": "campaign",
            "side": "candidate",
            "kind": "categorical",
            "buckets": 53,
            "wide": True,
        },
        {
            "name": "size",
            "path": "banner.size",
            "side": "candidate",
            "kind": "categorical",
            "vocabulary": ["s", "m", "l"],
            "default": "m",
            "deep": True,
        },
        {"name": "first", "path": "tags[0]", "side": "candidate", "kind": "categorical", "buckets": 11, "deep": True},
        {
            "name": "tags",
            "path": "tags",
            "side": "candidate",
            "kind": "multi_valued",
            "buckets": 41,
            "max_values": 2,
            "default": "none",
            "pooling": "sum",
            "wide": True,
        },
        {
            "name": "band",
            "path": "bid",
            "side": "candidate",
            "kind": "bucketised",
            "boundaries": [0.5, 2],
            "default": 1.0,
        },
        {
            "name": "bid",
            "path": "bid",
            "side": "candidate",
            "kind": "numeric",
            "log": True,
            "mean": 0.5,
            "std": 0.25,
            "clip": 3.0,
            "default": 1.0,
            "deep": True,
        },
        {"name": "user_hour", "kind": "cross", "of": ["hour", "user"], "buckets": 101, "wide": True},
        {"name": "campaign_tags", "kind": "cross", "of": ["campaign", "tags"], "buckets": 103, "wide": True},
        {"name": "campaign_user", "kind": "cross", "of": ["campaign", "user"], "buckets": 107, "wide": True},
        {"name": "likes_age_tags", "kind": "cross", "of": ["likes", "age", "tags"], "buckets": 109, "deep": True},
        {"name": "sex_campaign_band", "kind": "cross", "of": ["sex", "campaign", "band"], "buckets": 113, "wide": True},
    ],
}
"""Names, sides and kinds are mixed so that each rule of the encoder has a feature that needs it."""


@cache
def small_spec() -> FeatureSpec:
    """The spec above, validated."""
    return FeatureSpec.from_mapping(SMALL)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8"), max_size=6),
    st.sampled_from(["f", "m", "s", "18", "0.5", "12", 18, 30.5, 0, -0.0]),
)
"""Any JSON scalar, and some that the spec above knows."""

values = st.one_of(scalars, st.lists(scalars, max_size=4), st.dictionaries(st.text(max_size=2), scalars, max_size=2))
documents = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["user", "context", "id", "sex", "likes", "hour", "age", "pace", "x"]), inner, max_size=4
        ),
    ),
    max_leaves=10,
)
requests = st.fixed_dictionaries(
    {},
    optional={
        "user": st.one_of(
            documents,
            st.fixed_dictionaries({}, optional={"id": values, "sex": values, "likes": values, "age": values}),
        ),
        "context": st.one_of(documents, st.fixed_dictionaries({}, optional={"hour": values, "pace": values})),
    },
)
candidates = st.fixed_dictionaries(
    {"ad_id": st.text(st.characters(codec="utf-8"), min_size=1, max_size=3)},
    optional={
        "campaign": values,
        "banner": st.one_of(values, st.fixed_dictionaries({}, optional={"size": values})),
        "tags": values,
        "bid": values,
        "unknown": values,
    },
)
