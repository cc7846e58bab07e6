import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from streamer.errors import SpecError
from streamer.features import FeatureSpec, Layout, Numeric
from tests.streamer.specs import SMALL, small_spec

REFERENCE = Path(__file__).parents[3] / "configs/features/reference.yaml"


def changed(name: str | None = None, /, **changes: object) -> dict[str, Any]:
    content: dict[str, Any] = copy.deepcopy(SMALL)
    target = content if name is None else next(f for f in content["features"] if f["name"] == name)
    target.update(changes)
    return content


def test_the_reference_has_the_size_of_the_article() -> None:
    spec = FeatureSpec.from_yaml(REFERENCE)
    embedded = sum(f.deep and not isinstance(f, Numeric) for f in spec.features)
    assert (sum(f.wide for f in spec.features), sum(f.deep for f in spec.features), embedded) == (86, 64, 60)
    assert spec.embedding_dim * embedded == 600


def test_json_round_trip() -> None:
    for spec in (small_spec(), FeatureSpec.from_yaml(REFERENCE)):
        again = FeatureSpec.from_json(spec.to_json())
        assert again == spec
        assert again.hash == spec.hash


def test_the_hash_never_changes() -> None:
    assert small_spec().hash == "29696fb0f51dee57"


@pytest.mark.parametrize("changes", [{"name": "other"}, {"prior": 0.5}])
def test_the_hash_ignores_fields_without_effect_on_the_encoding(changes: dict[str, object]) -> None:
    assert FeatureSpec.from_mapping(changed(**changes)).hash == small_spec().hash


def test_an_indicator_that_is_off_keeps_the_hash() -> None:
    assert FeatureSpec.from_mapping(changed("bid", missing_indicator=False)).hash == small_spec().hash


@pytest.mark.parametrize(
    ("feature", "changes"),
    [
        (None, {"embedding_dim": 5}),
        (None, {"request": {"ad_id": "id"}}),
        (None, {"features": SMALL["features"][::-1]}),  # type: ignore[index]
        ("user", {"buckets": 98}),
        ("user", {"path": "user.uid"}),
        ("user", {"name": "user2", "deep": True}),
        ("sex", {"vocabulary": ["m", "f"]}),
        ("hour", {"default": "13"}),
        ("age", {"boundaries": [18, 30, 65]}),
        ("likes", {"max_values": 4}),
        ("likes", {"pooling": "sum"}),
        ("bid", {"clip": 4}),
        ("bid", {"mean": 0.6}),
        ("bid", {"missing_indicator": True}),
        ("campaign_user", {"of": ["campaign", "hour"]}),
        ("campaign", {"deep": True}),
        ("hour", {"deep": True, "embedding_dim": 3}),
    ],
)
def test_the_hash_covers_fields_with_effect_on_the_encoding(feature: str | None, changes: dict[str, object]) -> None:
    content = changed(feature, **changes)
    if changes.get("name") == "user2":
        for other in content["features"]:
            other["of"] = ["user2" if p == "user" else p for p in other["of"]] if "of" in other else None
            if other["of"] is None:
                del other["of"]
    assert FeatureSpec.from_mapping(content).hash != small_spec().hash


@pytest.mark.parametrize(
    ("feature", "changes", "said"),
    [
        ("user", {"buckets": -3}, ["feature 'user'", "buckets", "-3"]),
        ("user", {"buckets": 1}, ["feature 'user'", "at least 2"]),
        ("user", {"bucket": 3}, ["feature 'user'", "bucket", "(got 3)"]),
        ("user", {"path": "user.[x"}, ["feature 'user'", "'user.[x'", "character"]),
        ("user", {"path": ""}, ["feature 'user'", "path ''", "must start with a key"]),
        ("user", {"path": "[0].id"}, ["feature 'user'", "must start with a key"]),
        ("user", {"side": "ad"}, ["feature 'user'", "side", "'ad'"]),
        ("user", {"kind": "hashed"}, ["feature 'user'", "hashed"]),
        ("user", {"name": "9x"}, ["feature '9x'", "name", "'9x'"]),
        ("sex", {"buckets": 5}, ["feature 'sex'", "either buckets or a vocabulary"]),
        ("sex", {"vocabulary": ["f", "f"]}, ["feature 'sex'", "occurs twice"]),
        ("sex", {"vocabulary": ["f", ""]}, ["feature 'sex'", "vocabulary.1", "''"]),
        ("sex", {"wide": False, "deep": False, "name": "sx"}, ["'sx'", "neither wide nor deep"]),
        ("tags", {"default": ""}, ["feature 'tags'", "default", "''"]),
        ("likes", {"max_values": 0}, ["feature 'likes'", "max_values", "(got 0)"]),
        ("age", {"boundaries": [3, 3]}, ["feature 'age'", "must rise strictly"]),
        ("age", {"boundaries": [3, float("nan")]}, ["feature 'age'", "boundaries.1", "nan"]),
        ("bid", {"std": 0}, ["feature 'bid'", "std", "(got 0)"]),
        ("bid", {"mean": float("inf")}, ["feature 'bid'", "mean", "inf"]),
        ("campaign_user", {"of": ["campaign"]}, ["feature 'campaign_user'", "of"]),
        ("campaign_user", {"of": ["campaign", "campaign"]}, ["'campaign_user'", "occurs twice"]),
        ("campaign_user", {"of": ["campaign", "nobody"]}, ["'campaign_user'", "'nobody'"]),
        ("campaign_user", {"of": ["campaign", "bid"]}, ["'campaign_user'", "'bid' is numeric", "bucketise"]),
        ("campaign_user", {"name": "user"}, ["'user' is defined twice"]),
        ("likes", {"max_values": 64}, ["'likes_age_tags'", "128 values a row"]),
        ("user", {"buckets": 2**31}, ["int32"]),
        (None, {"prior": 1.0}, ["prior", "(got 1.0)"]),
        (None, {"features": []}, ["features"]),
        (None, {"embeding_dim": 3}, ["embeding_dim", "(got 3)"]),
        (None, {"request": {"candidates": "ext..["}}, ["request.candidates", "'ext..['"]),
        (None, {"request": {"adid": "x"}}, ["request", "adid"]),
    ],
)
def test_errors_name_feature_field_and_value(feature: str | None, changes: dict[str, object], said: list[str]) -> None:
    content = changed(feature, **changes)
    if changes.get("name") == "sx":
        content["features"] = [f for f in content["features"] if f["name"] != "sex_campaign_band"]
    with pytest.raises(SpecError) as caught:
        FeatureSpec.from_mapping(content, "mine.yaml")
    assert str(caught.value).startswith("mine.yaml: ")
    for part in said:
        assert part in str(caught.value)


def test_all_errors_are_listed() -> None:
    content = changed("user", buckets=-3)
    content["prior"] = 7
    with pytest.raises(SpecError) as caught:
        FeatureSpec.from_mapping(content)
    assert len(str(caught.value).splitlines()) == 2


def test_a_wrong_feature_is_the_only_error_of_a_spec_that_has_no_other() -> None:
    feature = {"name": "a", "path": "context.a", "side": "context", "kind": "categorical", "buckets": -1, "deep": True}
    cross = {"name": "b", "of": ["a"], "kind": "cross", "buckets": 9, "wide": True}
    for features, lines in (
        ([feature], ["feature 'a'.buckets: Input should be greater than or equal to 0 (got -1)"]),
        ([cross], ["feature 'b'.of: Tuple should have at least 2 items after validation, not 1"]),
        ([], ["features: Tuple should have at least 1 item after validation, not 0"]),
    ):
        with pytest.raises(SpecError) as caught:
            FeatureSpec.from_mapping({"name": "x", "embedding_dim": 4, "features": features}, "mine.yaml")
        assert str(caught.value).splitlines() == [f"mine.yaml: {line}" for line in lines]


@pytest.mark.parametrize("text", ["{", "[]", "3", "null"])
def test_other_json_is_rejected(text: str) -> None:
    with pytest.raises(SpecError, match="spec of ctr/3"):
        FeatureSpec.from_json(text, "spec of ctr/3")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        FeatureSpec.from_yaml(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(SpecError, match=r"bad\.yaml: cannot be read"):
        FeatureSpec.from_yaml(tmp_path / "bad.yaml")


def test_rows_of_features_neither_overlap_nor_leave_gaps() -> None:
    for spec in (small_spec(), FeatureSpec.from_yaml(REFERENCE)):
        layout = Layout(spec)
        taken = sorted((c.offset, c.offset + c.rows, c.feature.deep) for group in layout.ids.values() for c in group)
        assert taken[0][0] == 1
        assert all(a[1] == b[0] for a, b in pairwise(taken))
        assert taken[-1][1] == layout.table_rows
        assert all(deep == (end <= layout.embedded_rows) for _, end, deep in taken)


def test_columns_of_a_group_are_adjacent() -> None:
    layout = Layout(small_spec())
    for columns in layout.ids.values():
        at = 0
        for c in columns:
            assert c.start == at
            at += c.width
    assert [c.feature.name for c in layout.ids["pair"]] == ["campaign_user", "likes_age_tags", "sex_campaign_band"]
    assert [c.width for c in layout.ids["pair"]] == [1, 6, 1]
    assert layout.row_ids == 1 + 1 + 3 + 1 + 1 + 1 + 1 + 1 + 1 + 2 + 2 + 8
    assert layout.row_floats == 2


def test_the_spec_lists_the_keys_that_the_codec_parses() -> None:
    assert small_spec().containers == {"user", "context"}
    assert small_spec().document_keys == {"user", "context"}


@pytest.mark.parametrize(("path", "containers"), [("a", set()), ("a.b", {"a"}), ("a[0].b", set()), ("a[*].b", set())])
def test_a_path_through_a_list_needs_no_object(path: str, containers: set[str]) -> None:
    feature = {"name": "a", "path": path, "side": "user", "kind": "categorical", "buckets": 4, "wide": True}
    spec = FeatureSpec.from_mapping({"name": "lists", "embedding_dim": 1, "features": [feature]})
    assert spec.containers == containers


@pytest.mark.parametrize("key", ['a"', "a\\", "a\n", "\ud800"])
def test_a_key_that_the_parser_does_not_take_is_named(key: str) -> None:
    feature = {"name": "x", "path": key, "side": "user", "kind": "numeric", "deep": True}
    with pytest.raises(SpecError, match="the parser takes no such character in a key of the document"):
        FeatureSpec.from_mapping({"name": "s", "embedding_dim": 1, "features": [feature]})
    with pytest.raises(SpecError, match="the parser takes no such character"):
        FeatureSpec.from_mapping({**SMALL, "request": {"model": key}})
