"""The columns that the parts of a model read."""

from model_training.columns import input_columns
from streamer.features import FeatureSpec, Layout


def test_an_indicator_is_an_input_of_the_parts_that_read_its_number() -> None:
    number = {"kind": "numeric", "side": "user", "missing_indicator": True}
    features = [
        {"name": "a", "path": "a", "wide": True, **number},
        {"name": "b", "path": "b", "deep": True, **number},
        {"name": "c", "path": "c", "side": "candidate", "kind": "numeric", "wide": True, "deep": True},
    ]
    request, candidate = input_columns(
        Layout(FeatureSpec.from_mapping({"name": "s", "embedding_dim": 1, "features": features}))
    )
    assert (request.float_width, request.wide.floats, request.deep_floats) == (4, (0, 2), (1, 3))
    assert request.single.floats == (0, 1, 2, 3)
    assert (candidate.float_width, candidate.wide.floats, candidate.deep_floats) == (1, (0,), (0,))
