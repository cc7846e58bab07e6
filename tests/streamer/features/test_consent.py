"""A request that denies consent is encoded as if it had no user, in serving and in training."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import SpecError
from streamer.features import Encoder, FeatureSpec
from streamer.features.consent import ConsentCheck, DenialRule
from streamer.features.paths import nested
from streamer.types import BidRequest
from tests.streamer.specs import SMALL, candidates, documents, requests, scalars, small_spec

RULES: list[Any] = [
    {"path": "regs.coppa", "values": [1]},
    {"path": "regs.gdpr", "values": [1], "unless": "user.consent"},
]


def with_consent(rules: list[Any] = RULES) -> FeatureSpec:
    return FeatureSpec.from_mapping({**SMALL, "consent": {"denied_by": rules}})


def denies(document: object, rules: list[Any] = RULES) -> bool:
    return ConsentCheck([DenialRule.model_validate(rule) for rule in rules]).denies(document)


@pytest.mark.parametrize(
    ("document", "denied"),
    [
        ({}, False),
        ({"regs": None}, False),
        ({"regs": {"coppa": 0}}, False),
        ({"regs": {"coppa": ""}}, False),
        ({"regs": {"coppa": 1}}, True),
        ({"regs": {"coppa": 1.0}}, True),
        ({"regs": {"coppa": "1"}}, True),
        ({"regs": {"coppa": [0, 1]}}, True),
        ({"regs": {"coppa": [0, 2]}}, False),
        ({"regs": {"coppa": {"value": 0}}}, True),
        ({"regs": {"coppa": [[]]}}, True),
        ({"regs": {"gdpr": 1}}, True),
        ({"regs": {"gdpr": 1}, "user": {"consent": ""}}, True),
        ({"regs": {"gdpr": 1}, "user": {"consent": None}}, True),
        ({"regs": {"gdpr": 1}, "user": {"consent": "CPXxRfA"}}, False),
        ({"regs": {"gdpr": 1, "coppa": 1}, "user": {"consent": "CPXxRfA"}}, True),
        ({"regs": {"gdpr": 0}}, False),
        ({"regs": [{"coppa": 0}]}, True),
        ({"regs": "none"}, True),
        ([], False),
    ],
)
def test_rules(document: object, denied: bool) -> None:
    assert denies(document) is denied


@given(documents | requests, st.lists(scalars.filter(lambda value: value not in (None, "")), min_size=1, max_size=3))
def test_no_document_raises(document: object, values: list[object]) -> None:
    rules = [{"path": path, "values": values, "unless": "context.pace"} for path in ("user.id", "user.likes[*].x", "x")]
    assert denies(document, rules) in (True, False)


@given(requests, st.lists(candidates, min_size=1, max_size=3))
def test_denied_requests_are_encoded_without_their_user(document: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    encoder = Encoder(with_consent())
    raw = [json.dumps(row).encode() for row in rows]

    def encoded(fields: dict[str, Any]) -> Any:
        return encoder.encode(BidRequest("r", fields, len(raw), rows=raw))

    denied = encoded({**document, "regs": {"coppa": 1}})
    anonymous = encoded({key: value for key, value in document.items() if key != "user"})
    assert denied.consent_denied
    assert not anonymous.consent_denied
    np.testing.assert_array_equal(denied.keys, anonymous.keys)
    np.testing.assert_array_equal(encoder.flat_rows(denied)[0], encoder.flat_rows(anonymous)[0])
    np.testing.assert_array_equal(encoder.flat_rows(denied)[1], encoder.flat_rows(anonymous)[1])


def test_training_encodes_as_serving_does() -> None:
    encoder = Encoder(with_consent())
    user = {"id": "u1", "sex": "f", "likes": ["a", "b"], "age": 40}
    log: list[dict[str, object]] = [
        {"user": user},
        {"user": user, "regs": {"coppa": 1}},
        {"user": user, "regs": {"gdpr": 1}},
    ]
    ads = [{"ad_id": f"a{i}", "campaign": "c", "tags": ["t"]} for i in range(4)]
    ids, floats = encoder.encode_log(log, ads, [1, 2, 1])
    served = [
        encoder.flat_rows(
            encoder.encode(BidRequest("r", document, len(shown), rows=[orjson.dumps(ad) for ad in shown]))
        )
        for document, shown in zip(log, (ads[:1], ads[1:3], ads[3:]), strict=True)
    ]
    np.testing.assert_array_equal(ids, np.vstack([part for part, _ in served]))
    np.testing.assert_array_equal(floats, np.vstack([part for _, part in served]))


def test_the_spec_carries_its_rules() -> None:
    spec = with_consent()
    assert FeatureSpec.from_json(spec.to_json()) == spec
    assert spec.hash != small_spec().hash
    assert spec.hash != with_consent(RULES[:1]).hash
    assert {"regs", "user"} <= spec.document_keys
    assert "regs" in spec.containers


@pytest.mark.parametrize(
    ("consent", "said"),
    [
        ({}, "denied_by"),
        ({"denied_by": []}, "denied_by"),
        ({"denied_by": [{"path": "regs.coppa", "values": []}]}, "values"),
        ({"denied_by": [{"path": "regs.coppa", "values": [""]}]}, "cannot deny"),
        ({"denied_by": [{"path": "regs..coppa", "values": [1]}]}, "regs..coppa"),
        ({"denied_by": [{"path": "regs.gdpr", "values": [1], "unless": "[0]"}]}, "[0]"),
        ({"denied_by": [{"path": "regs.coppa", "value": [1]}]}, "value"),
    ],
)
def test_a_bad_rule_is_named(consent: dict[str, object], said: str) -> None:
    content = copy.deepcopy(SMALL) | {"consent": consent}
    with pytest.raises(SpecError, match="consent") as raised:
        FeatureSpec.from_mapping(content, "spec.yaml")
    assert said in str(raised.value)


@pytest.mark.parametrize("yes", [1, 1.0, "1", True, "true"], ids=repr)
@pytest.mark.parametrize("path", ["regs.coppa", "regs.gdpr", "regs.ext.gdpr", "device.lmt"])
def test_the_openrtb_spec_takes_a_denial_of_any_type(path: str, yes: object) -> None:
    """Some producers write booleans where the standard has 0 and 1."""
    check = ConsentCheck(FeatureSpec.from_yaml(Path("configs/features/openrtb.yaml")).denial_rules)
    assert check.denies(nested(path, yes))
    assert not any(check.denies(nested(path, no)) for no in (0, "0", False, None))
