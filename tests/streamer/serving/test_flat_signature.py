"""The inputs for the flat signature of a foreign model."""

from typing import Any

import numpy as np
import orjson
import pytest

from streamer.errors import SpecError
from streamer.features import Encoder, FeatureSpec
from streamer.serving.flat_signature import FlatSignature
from streamer.types import BatchInputs, BidRequest, SignatureInfo, TensorInfo

FEATURES: list[dict[str, object]] = [
    {"name": "sex", "path": "user.sex", "side": "user", "kind": "categorical", "vocabulary": ["f", "m"], "deep": True},
    {"name": "likes", "path": "user.likes", "side": "user", "kind": "multi_valued", "buckets": 9, "max_values": 3,
     "deep": True},
    {"name": "hour", "path": "context.hour", "side": "context", "kind": "numeric", "mean": 12, "std": 7, "wide": True},
    {"name": "age", "path": "user.age", "side": "user", "kind": "bucketised", "boundaries": [18, 65], "deep": True},
    {"name": "ad", "path": "ad_id", "side": "candidate", "kind": "categorical", "vocabulary": ["a", "b"], "wide": True},
    {"name": "bid", "path": "bid", "side": "candidate", "kind": "numeric", "log": True, "std": 2, "deep": True},
    {"name": "likes_x_ad", "kind": "cross", "of": ["likes", "ad"], "buckets": 20, "deep": True},
]  # fmt: skip
INPUTS = {
    "person": ["sex", "age"],
    "likes": ["likes"],
    "ad": ["ad"],
    "numbers": ["hour", "bid"],
    "crossed": ["likes_x_ad"],
}
FOUND = SignatureInfo(
    {
        "person": TensorInfo("int64", (-1, 2)),
        "likes": TensorInfo("int32", (-1, -1)),
        "ad": TensorInfo("int64", (-1,)),
        "numbers": TensorInfo("float32", (-1, 2)),
        "crossed": TensorInfo("int32", (-1, 3)),
    },
    {"probability": TensorInfo("float32", (-1, 1))},
)


def spec(**serving: object) -> FeatureSpec:
    content = {"output": "probability", "inputs": INPUTS, **serving}
    return FeatureSpec.from_mapping({"name": "s", "embedding_dim": 1, "features": FEATURES, "serving": content})


def signature(found: SignatureInfo = FOUND, **serving: object) -> FlatSignature:
    encoder = Encoder(spec(**serving))
    assert encoder.spec.serving is not None
    return FlatSignature(encoder.layout, encoder.spec.serving, found)


def tensors(flat: FlatSignature, batch: BatchInputs) -> dict[str, Any]:
    return dict(flat.tensors(batch))


def with_input(**changed: TensorInfo) -> SignatureInfo:
    return SignatureInfo({**FOUND.inputs, **changed}, FOUND.outputs)


def test_each_input_holds_its_features_in_the_form_of_the_model() -> None:
    user = {"sex": "m", "likes": ["x", "y"], "age": 30}
    rows = [orjson.dumps(c) for c in ({"ad_id": "b", "bid": 3.5}, {"ad_id": "?"}, {"ad_id": "a", "bid": 0.5})]
    request = BidRequest("r", {"user": user, "context": {"hour": 20}}, 3, rows=rows)
    encoded = Encoder(spec()).encode(request)
    found = tensors(signature(), BatchInputs.whole(encoded))
    assert {name: (array.dtype.name, array.shape) for name, array in found.items()} == {
        "person": ("int64", (3, 2)), "likes": ("int32", (3, 3)), "ad": ("int64", (3,)), "numbers": ("float32", (3, 2)),
        "crossed": ("int32", (3, 3)),
    }  # fmt: skip
    assert found["person"].tolist() == [[3, 2]] * 3, "m is the second word, 30 is in the second interval"
    assert found["ad"].tolist() == [3, 1, 2], "b, unknown, a"
    np.testing.assert_allclose(found["numbers"], np.array([[20, 3.5], [20, 0], [20, 0.5]]), rtol=1e-5, atol=1e-6)
    likes, crossed = found["likes"], found["crossed"]
    assert (likes[:, 2] == 0).all(), "padding"
    assert ((likes[:, :2] >= 1) & (likes[:, :2] <= 9)).all()
    assert (crossed[:, 2] == 0).all()
    assert ((crossed[:, :2] >= 1) & (crossed[:, :2] <= 20)).all()


def test_rows_of_several_requests_have_the_right_users() -> None:
    encoder = Encoder(spec())
    a, b = (encoder.encode(BidRequest("r", {"user": {"sex": sex}}, 1, rows=[b'{"ad_id":"a"}'])) for sex in ("f", "m"))
    both = BatchInputs(
        np.vstack([a.request_ids, b.request_ids]),
        np.vstack([a.request_floats, b.request_floats]),
        np.vstack([a.candidate_ids] * 3),
        np.vstack([a.candidate_floats] * 3),
        np.vstack([a.pair_ids] * 3),
        np.array([1, 0, 1], dtype=np.int32),
    )
    assert tensors(signature(), both)["person"][:, 0].tolist() == [3, 2, 3]


def test_a_cross_of_one_value_of_a_list_is_counted_from_one() -> None:
    features: list[dict[str, object]] = [
        {"name": "like", "path": "user.likes", "side": "user", "kind": "multi_valued", "buckets": 9, "max_values": 1},
        {"name": "ad", "path": "ad_id", "side": "candidate", "kind": "categorical", "buckets": 50, "wide": True},
        {"name": "ad_x_like", "kind": "cross", "of": ["like", "ad"], "buckets": 2, "deep": True},
    ]
    serving = {"output": "probability", "inputs": {"crossed": ["ad_x_like"]}}
    encoder = Encoder(
        FeatureSpec.from_mapping({"name": "s", "embedding_dim": 1, "features": features, "serving": serving})
    )
    assert encoder.spec.serving is not None
    found = SignatureInfo({"crossed": TensorInfo("int32", (-1,))}, FOUND.outputs)
    flat = FlatSignature(encoder.layout, encoder.spec.serving, found)
    rows = [orjson.dumps({"ad_id": str(i)}) for i in range(40)]
    crossed = [
        set(tensors(flat, BatchInputs.whole(encoder.encode(BidRequest("r", {"user": user}, 40, rows=rows))))["crossed"])
        for user in ({"likes": ["x"]}, {})
    ]
    assert crossed == [{1, 2}, {0}]


def test_a_number_for_an_integer_input_is_rounded() -> None:
    found = SignatureInfo({"hour": TensorInfo("int64", (-1,))}, FOUND.outputs)
    flat = signature(found, inputs={"hour": ["hour"]})
    encoded = Encoder(spec()).encode(BidRequest("r", {"context": {"hour": 17}}, 1, rows=[b'{"ad_id":"a"}']))
    hours = tensors(flat, BatchInputs.whole(encoded))["hour"]
    assert (hours.dtype.name, hours.tolist()) == ("int64", [17])


@pytest.mark.parametrize(
    ("found", "serving", "message"),
    [
        (with_input(more=TensorInfo("int32", (-1,))), {}, "serving.inputs: .*, but the model takes .*more"),
        (FOUND, {"output": "ctr"}, "serving.output: 'ctr', but the model returns .*probability"),
        (with_input(ad=TensorInfo("string", (-1,))), {}, "serving.inputs.ad: the model takes string"),
        (with_input(ad=TensorInfo("float32", (-1,))), {}, "serving.inputs.ad: 'ad' is not a numeric feature"),
        (with_input(person=TensorInfo("int64", (-1, 3))), {}, r"serving.inputs.person: 2 columns, .* shape \[-1, 3\]"),
        (with_input(person=TensorInfo("int64", (-1,))), {}, r"serving.inputs.person: 2 columns, .* shape \[-1\]"),
        (with_input(person=TensorInfo("int64", (-1, 2, 1))), {}, "serving.inputs.person: 2 columns"),
    ],
)
def test_the_error_names_an_input_that_does_not_fit_the_model(
    found: SignatureInfo, serving: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        signature(found, **serving)


def test_reading_the_spec_names_an_input_of_an_unknown_feature() -> None:
    with pytest.raises(SpecError, match=r"serving.inputs.person: no wide or deep feature is called 'sec'"):
        spec(inputs={"person": ["sec"]})


def test_the_flat_signature_does_not_change_the_spec_hash() -> None:
    assert spec().hash == spec(output="other").hash
