"""A spec drafted from a sample of requests loads, encodes the sample, and says why fields are left out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from streamer.codec import Codec
from streamer.commands import app
from streamer.errors import ConfigError
from streamer.features import Encoder, FeatureSpec
from streamer.features.coverage import read_features
from streamer.features.paths import parse_path
from streamer.settings.sections import CodecSettings
from streamer.spec_sample.choice import buckets
from streamer.spec_sample.draft import draft, read_sample
from streamer.spec_sample.names import new_name
from streamer.types import BidRequest, RequestPaths
from tests.public_data import require_data

Document = dict[str, Any]


def drafted(documents: Sequence[Document]) -> tuple[str, FeatureSpec]:
    text = draft(
        read_sample([(f"r.jsonl:{i}", each) for i, each in enumerate(documents, 1)], "r.jsonl"), "r", "r.jsonl"
    )
    return text, FeatureSpec.from_mapping(yaml.safe_load(text))


def encode(spec: FeatureSpec, document: object) -> None:
    codec = Codec(CodecSettings(), spec.request, spec.document_keys, spec.containers)
    request = codec.decode(json.dumps(document).encode(), ())
    assert isinstance(request, BidRequest), request
    Encoder(spec).encode(request)


def own_shape(i: int) -> Document:
    """A bidder's own JSON."""
    return {
        "auction": f"auction-{i}",
        "timeout_ms": 30,
        "at": 1_700_000_000_000 + i,
        "version": 3,
        "visitor": {"id": f"{i:032x}", "age": 18 + i % 50, "likes": ["a", f"b{i % 7}"][: i % 3], "note": None},
        "page": {
            "hour": i % 24,
            "floor": 0.5 + i,
            "tags": [{"name": "x"}, {"name": f"y{i % 3}"}],
            "ext": [{"k": "v"}] * (i % 2),
        },
        "ads": [{"creative": f"c{j}", "campaign": f"k{j % 5}", "price": 1.25 * j} for j in range(i % 5, i % 5 + 6)],
    }


def test_paths_sides_and_kinds_follow_from_the_values() -> None:
    documents = [own_shape(i) for i in range(200)]
    text, spec = drafted(documents)
    assert spec.request == RequestPaths("auction", "timeout_ms", "model", "ads", "creative")
    found = {f.name: (f.kind, getattr(f, "side", None), getattr(f, "path", None)) for f in spec.features}
    assert found == {
        "visitor_age": ("bucketised", "user", "visitor.age"),
        "visitor_likes": ("multi_valued", "user", "visitor.likes"),
        "page_hour": ("categorical", "context", "page.hour"),
        "page_floor": ("numeric", "context", "page.floor"),
        "page_tags_name": ("multi_valued", "context", "page.tags[*].name"),
        "page_ext_k": ("categorical", "context", "page.ext[0].k"),
        "creative": ("categorical", "candidate", "creative"),
        "campaign": ("categorical", "candidate", "campaign"),
        "price": ("numeric", "candidate", "price"),
    }
    for reason in (
        "# context at: it looks like a timestamp; the hour or the age of something would be a feature",
        "# context version: it is constant",
        "# user visitor.id: it looks like an id: nearly every value is different",
        "# user visitor.note: it never has a value",
        '# in 66% of the requests, 8 distinct values, up to 2 in one of the requests: "a" (67%), ',
        "# in 100% of the requests, 200 distinct values: 0.5 to 199.5\n",
    ):
        assert f"\n  {reason}" in text
    for document in documents[:20]:
        encode(spec, document)


@pytest.mark.slow
def test_a_spec_holds_as_many_features_as_it_can() -> None:
    """An object whose keys are ids has a path for each of them."""
    text, spec = drafted(
        [{"request_id": "r", "x": {f"k{i}": "v" for i in range(1_200)}, "candidates": [{"ad_id": "a", "size": 1}]}]
    )
    assert [f.name for f in spec.features[-2:]] == ["x_k1022", "ad_id"]
    assert "# Left out, 179 fields:\n  # context x.k1023: a spec has no room for it\n" in text
    assert text.endswith("  # and 79 more\n")


def test_columns_are_read_as_rows() -> None:
    rows = [{"request_id": "r", "candidates": [{"ad_id": "a", "x": {"y": [1, 2]}}, {"ad_id": "b", "x": {"y": []}}]}]
    columns = [{"request_id": "r", "candidates": {"ad_id": ["a", "b"], "x": {"y": [[1, 2], []]}}}]
    assert drafted(rows) == drafted(columns)
    assert drafted(columns)[1].request == RequestPaths()


def test_without_candidates_the_bidder_adds_them() -> None:
    text, spec = drafted(
        [{"id": f"r{i}", "tmax": 100, "imp": [{"id": "1", "w": 300 + i}, {"w": 1}]} for i in range(40)]
    )
    assert spec.request == RequestPaths(request_id="id", deadline_ms="tmax")
    assert [(f.name, getattr(f, "path", None)) for f in spec.features] == [("imp_w", "imp[0].w"), ("ad_id", "ad_id")]
    assert "# The sample has no candidates:" in text
    encode(spec, {"id": "r", "imp": [{"w": 3}], "candidates": [{"ad_id": "a"}]})


def test_a_value_that_is_sometimes_an_object_rejects_no_request() -> None:
    ads = {"candidates": [{"ad_id": "a", "b": 1}, {"ad_id": "b", "b": {"c": 1}}]}
    documents: list[Document] = [
        {"request_id": "r", "user": "u7", "x": 1, **ads},
        {"request_id": "s", "user": {"id": 1}, **ads},
    ]
    text, spec = drafted(documents)
    assert {f.name for f in spec.features} == {"x", "ad_id"}
    assert "# user user: it is sometimes an object\n" in text
    assert "# user user.id: user is sometimes a value and sometimes an object\n" in text
    for document in documents:
        encode(spec, document)


def test_a_key_that_no_path_can_name_is_left_out() -> None:
    ads = {"candidates": [{"ad_id": "a"}]}
    text, _ = drafted([{"request_id": "r", "a.b": 1, 'c"\n\x1b]0;d': 2, "e": [[1]], "*": 3, "f": {"*": ["g"]}, **ads}])
    assert '  # context a.b: a path cannot name this key\n  # context "c\\"\\n\\u001b]0;d": a path cannot' in text
    assert "  # context e: a list of lists\n" in text
    assert '  # context "f.*": a path cannot' in text
    for key in ("*", "", "a."):
        _, spec = drafted([{"request_id": "r", key: {"ads": [{"ad_id": "a"}]}}])
        assert spec.request.candidates == "candidates", "the default"


def test_numbers_that_overflow_are_left_out() -> None:
    text, _ = drafted([{"request_id": "r", "x": x, "candidates": [{"ad_id": "a"}]} for x in (1e200, -1e200, 1.5)])
    assert "  # context x: its numbers do not fit 32 bits\n" in text


@pytest.mark.parametrize("name", ["on", "true", "null", "Avazu"])
def test_the_name_of_any_file_is_a_text(name: str) -> None:
    sample = read_sample([("r:1", {"request_id": "r", "candidates": [{"ad_id": "a"}]})], "r")
    assert yaml.safe_load(draft(sample, name, "r"))["name"] == name


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "r.jsonl:3: record: not valid JSON: unexpected end of data: line 1 column 2 (char 1)"),
        (b"[]", "r.jsonl:3: record: expected an object, got []"),
        (b'{"candidates": 3}', "r.jsonl:3: candidates: expected a list of objects or columns, got 3"),
        (b'{"candidates": [3]}', "r.jsonl:3: candidates[0]: expected an object, got 3"),
        (
            b'{"candidates": [{"ad_id": 3}]}',
            "r.jsonl:3: candidates[0].ad_id: expected a non-empty string, the ad's id, got 3",
        ),
        (b'{"candidates": {"x": 1}}', "r.jsonl:3: candidates: expected columns with a list of ad ids, got nothing"),
        (
            b'{"candidates": {"ad_id": ["a"], "x": []}}',
            "r.jsonl:3: candidates.x: expected a list with one value for each of 1 ads, got 0 values",
        ),
    ],
)
def test_a_bad_line_is_named(line: bytes, message: str, tmp_path: Path) -> None:
    good = b'{"request_id": "r", "candidates": [{"ad_id": "a"}]}'
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"\n".join([good, b"", line, *[good] * 20]))
    error = CliRunner().invoke(app, ["spec", "init", "--from-sample", str(path)]).exception
    assert isinstance(error, ConfigError)
    assert str(error) == f"{tmp_path}/{message}"


def test_a_click_log_is_no_sample() -> None:
    with pytest.raises(ConfigError, match=r"r\.jsonl:1: clicked: this is a click log; "):
        drafted([{"timestamp_ms": 0, "request": {}, "candidates": [{"ad_id": "a"}], "clicked": [0]}])


def test_the_command_reads_a_file_or_standard_input(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text("\n".join(json.dumps(own_shape(i)) for i in range(30)))
    command = ["spec", "init", "--from-sample"]
    found = CliRunner().invoke(app, [*command, str(tmp_path / "mine.jsonl")])
    (tmp_path / "spec.yaml").write_text(found.stdout)
    assert FeatureSpec.from_yaml(tmp_path / "spec.yaml").name == "mine"
    assert found.stdout.startswith("# Drafted from 30 requests of ")
    assert CliRunner().invoke(app, [*command, "-"], input=(tmp_path / "mine.jsonl").read_bytes()).exit_code == 0
    assert (
        str(CliRunner().invoke(app, [*command, str(tmp_path)]).exception)
        == f"{tmp_path}: cannot be read: Is a directory"
    )
    assert "has no requests" in str(CliRunner().invoke(app, [*command, "-"], input=b"\n").exception)
    assert "either --from-sample or --from-model" in str(CliRunner().invoke(app, ["spec", "init"]).exception)


def test_a_path_has_no_more_steps_than_a_spec_accepts() -> None:
    sample: list[Document] = []
    for i in range(30):
        inner: Document = {"end": i}
        for level in range(120):
            inner = {"a": inner} | ({f"n{level}": i} if level < 25 else {})
        sample.append({"request_id": f"r{i}", "user": inner, "candidates": [{"ad_id": "a"}]})
    text, spec = drafted(sample)
    assert max(len(parse_path(feature.path)) for feature in read_features(spec)) == 100
    assert "a path has at most 100 steps" in text


@pytest.mark.parametrize(
    "line",
    [
        '{"id":"r","user":' + '{"a":' * 1015 + "1" + "}" * 1015 + "}",
        '{"id":"r","candidates":' + '{"ad_id":["x"],"a":' * 1015 + '["x"]' + "}" * 1015 + "}",
        '{"id":"r","candidates":[{"ad_id":"x"},' + "[" * 1015 + "]" * 1015 + "]}",
        "[" * 1015 + "]" * 1015,
    ],
)
def test_deep_nesting_is_an_error_in_one_line_at_most(line: str) -> None:
    found = CliRunner().invoke(app, ["spec", "init", "--from-sample", "-"], input=line.encode())
    assert found.exception is None or isinstance(found.exception, ConfigError)
    assert "\n" not in str(found.exception)


@pytest.mark.parametrize("other", [[], [{"b": 1}]])
def test_an_object_that_is_sometimes_a_list_rejects_no_request(other: object) -> None:
    documents: list[Document] = [
        {"request_id": "r", "x": value, "candidates": [{"ad_id": "a"}]} for value in ({"b": 1}, other)
    ]
    text, spec = drafted(documents)
    assert "x.b: x is sometimes a list" in text
    for document in documents:
        encode(spec, document)


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS = st.lists(
    st.dictionaries(st.sampled_from(["user", "x", "imp", "é.", "a\nb"]), JSON, max_size=3), min_size=1, max_size=4
)


@settings(max_examples=25)
@given(DOCUMENTS, JSON)
def test_any_sample_gives_a_spec_that_encodes_it(documents: list[Document], of_ad: object) -> None:
    requests = [{**each, "request_id": "r", "candidates": [{"ad_id": "a", "x": of_ad}]} for each in documents]
    _, spec = drafted(requests)
    for request in requests:
        encode(spec, request)


@given(st.integers(1, 10**7))
def test_buckets_are_a_power_of_two_with_room(distinct: int) -> None:
    found = buckets(distinct)
    assert found & (found - 1) == 0
    assert found == 2**20 or found >= 2 * distinct
    assert 16 <= found <= 2**20


@given(st.lists(st.text(max_size=5), max_size=6))
def test_names_are_valid_and_different(wanted: list[str]) -> None:
    taken: set[str] = set()
    names = [new_name(taken, each) for each in wanted]
    assert len(set(names)) == len(names)
    spec = {"path": "x", "side": "user", "kind": "categorical", "buckets": 2, "wide": True}
    if names:
        FeatureSpec.from_mapping({"name": "n", "embedding_dim": 1, "features": [{"name": n, **spec} for n in names]})


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("name", ["openrtb_requests.jsonl", "adx_requests.jsonl"])
def test_real_auctions_give_a_spec_that_encodes_them(name: str) -> None:
    (path,) = require_data(Path("bidreq", name))
    documents = [json.loads(line) for line in path.read_bytes().splitlines()]
    _, spec = drafted(documents)
    found = {feature.name: (feature.kind, getattr(feature, "side", None)) for feature in spec.features}
    assert found["device_ua"] == ("categorical", "user")
    assert found["imp_banner_w"][1] == "context"
    for document in documents:
        encode(spec, {**document, "candidates": [{"ad_id": "a"}], "tmax": None})
