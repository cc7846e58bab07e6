"""A row of a table holds the encoding of its ad, and the values to encode it again."""

from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given, settings

from streamer.ads import RowForm
from streamer.errors import SpecError
from streamer.features import Encoder, FeatureSpec
from streamer.features.stored_rows import StoredRows
from tests.streamer.features.test_encoder import Document, ads, by_rows
from tests.streamer.specs import SMALL, small_spec

ENCODER = Encoder(small_spec())
FORM: RowForm = ENCODER.row_form()


@settings(max_examples=60)
@given(some=ads)
def test_a_row_has_the_encoding_of_a_request(some: list[Document]) -> None:
    rows, encoded = FORM.encode(some), ENCODER.encode(by_rows({}, some))
    assert rows.dtype == FORM.dtype
    assert np.array_equal(rows["ids"], encoded.candidate_ids)
    assert np.array_equal(rows["floats"], encoded.candidate_floats)
    assert np.array_equal(rows["words"][:, -2], encoded.ad_keys)


@settings(max_examples=30)
@given(some=ads)
def test_rows_do_not_depend_on_the_batch(some: list[Document]) -> None:
    assert FORM.encode(some).tobytes() == b"".join(FORM.encode([ad]).tobytes() for ad in some)


def test_a_row_of_the_reference_spec_has_a_bounded_size() -> None:
    spec = FeatureSpec.from_yaml(Path("configs/features/reference.yaml"))
    assert Encoder(spec).row_form().dtype.itemsize <= 640


def test_a_fingerprint_is_that_of_the_spec() -> None:
    same, other = FeatureSpec.from_mapping(SMALL), FeatureSpec.from_mapping({**SMALL, "embedding_dim": 5})
    assert len(FORM.fingerprint) == 32
    assert FORM.fingerprint == Encoder(same).row_form().fingerprint != Encoder(other).row_form().fingerprint


def test_a_record_is_a_candidate_with_the_ad_id_of_its_key() -> None:
    ad = {"campaign": "c", "bid": 2}
    assert FORM.document(b"a1", orjson.dumps(ad)) == {**ad, "ad_id": "a1"}
    assert FORM.document(b"a1", orjson.dumps({**ad, "ad_id": "a1"})) == {**ad, "ad_id": "a1"}
    nested = _form_by("ad.id")
    assert nested.document(b"a1", b'{"ad": {"size": 3}}') == {"ad": {"size": 3, "id": "a1"}}
    assert nested.document("ü".encode(), b"{}") == {"ad": {"id": "ü"}}


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (None, b"{}", "key: expected the ad id, got nothing"),
        (b"", b"{}", "key: expected the ad id, got nothing"),
        (b"\xff", b"{}", "key: expected the ad id in UTF-8"),
        (b"a1", b"", "value: not valid JSON: "),
        (b"a1", b'{"bid": NaN}', "value: not valid JSON: "),
        (b"a1", b"[1]", "value: expected an object, got [1]"),
        (b"a1", b"[" * 1020 + b"]" * 1020, "value: expected an object, got "),
        (b"a1", b'{"ad": {"id": "a2"}}', "ad.id: expected the record's key 'a1', got 'a2'"),
        (b"1", b'{"ad": {"id": 1}}', "ad.id: expected the record's key '1', got 1"),
        (b"a1", b'{"ad": "a1"}', "ad.id: expected the record's key 'a1', got nothing"),
    ],
)
def test_a_record_that_is_no_ad_is_rejected_with_the_reason(key: bytes | None, value: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=r"^(key|value|ad\.id): ") as error:
        _form_by("ad.id").document(key, value)
    assert str(error.value).startswith(reason)


def test_a_model_of_another_project_has_no_rows_of_a_fixed_size() -> None:
    feature = {"name": "size", "path": "size", "side": "candidate", "kind": "numeric", "deep": True}
    serving = {"inputs": {"x": ["size"]}, "output": "y"}
    spec = FeatureSpec.from_mapping({"name": "foreign", "embedding_dim": 1, "features": [feature], "serving": serving})
    with pytest.raises(SpecError, match=r"spec 'foreign': serving: .* set ads\.topic to null"):
        Encoder(spec).row_form()


def _form_by(ad_id: str) -> StoredRows:
    return Encoder(FeatureSpec.from_mapping({**SMALL, "request": {"ad_id": ad_id}})).row_form()
