import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.errors import SpecError
from streamer.features.paths import column_getter, getter, nested, parse_path
from tests.streamer.specs import documents

PATHS = ["a", "a.b", "a.b.c", "a[0]", "a[2].b", "a[*].b", "a[*][*]", "a.b[*].c[0]", "user.id", "x"]


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("a", ("a",)),
        ("imp[0].banner.w", ("imp", 0, "banner", "w")),
        ("user.data[*].id", ("user", "data", "*", "id")),
        ("a[0][12]", ("a", 0, 12)),
        ("Ünï cöde.b-c", ("Ünï cöde", "b-c")),
    ],
)
def test_steps(path: str, steps: tuple[str | int, ...]) -> None:
    assert parse_path(path) == steps


@pytest.mark.parametrize("path", ["", ".", ".a", "a.", "a..b", "[0]", "[*]", "a[", "a[x]", "a[-1]", "a]", "a[0", "*"])
def test_an_unreadable_path_is_rejected_by_name(path: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_path(path)
    assert repr(path) in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("id", 7),
        ("user.id", "u"),
        ("imp[0].w", 300),
        ("imp[1].w", 320),
        ("imp[2].w", None),
        ("imp[*].w", [300, 320]),
        ("imp[*].x", []),
        ("imp[*].deals[*].id", ["d1", "d2", "d3"]),
        ("imp[*].deals", [{"id": "d1"}, {"id": "d2"}, {"id": "d3"}]),
        ("user[0].id", "u"),
        ("user[*].id", ["u"]),
        ("user[1].id", None),
        ("id[0]", 7),
        ("id[*]", [7]),
        ("null[0]", None),
        ("null[*]", None),
        ("user.id.x", None),
        ("imp.w", None),
        ("none", None),
        ("null.x", None),
    ],
)
def test_values(path: str, value: object) -> None:
    document = {
        "id": 7,
        "null": None,
        "user": {"id": "u"},
        "imp": [{"w": 300, "deals": [{"id": "d1"}]}, {"w": 320, "deals": [{"id": "d2"}, {"id": "d3"}]}],
    }
    assert getter(path)(document) == value


@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=20)
@given(document=documents)
def test_no_document_makes_a_getter_raise(path: str, document: object) -> None:
    getter(path)(document)
    column_getter(path)(document)


@pytest.mark.parametrize("path", [p for p in PATHS if "*" not in p])
@settings(max_examples=10)
@given(value=st.text(min_size=1))
def test_the_getter_finds_a_nested_value(path: str, value: str) -> None:
    assert getter(path)(nested(path, value)) == value


def test_a_nested_value_under_every_element() -> None:
    assert nested("a[*].b", 3) == {"a": [{"b": 3}]}


@pytest.mark.parametrize(
    ("path", "column"),
    [
        ("w", [1, 2]),
        ("banner.w", [3, 4]),
        ("tags[0]", ["x", None]),
        ("tags[1]", ["y", None]),
        ("w[0]", [1, 2]),
        ("w[*]", [[1], [2]]),
        ("deals[*].id", [["d1", "d2"], []]),
        ("deals[1].id", ["d2", None]),
        ("ext.w", [5, None]),  # a column of objects: the rest of the path leads into each
        ("none", None),
        ("banner.none", None),
        ("w.x", [None, None]),
        ("scalar", 3),
    ],
)
def test_columns(path: str, column: object) -> None:
    columns = {
        "w": [1, 2],
        "banner": {"w": [3, 4]},
        "tags": [["x", "y"], []],
        "deals": [[{"id": "d1"}, {"id": "d2"}], []],
        "ext": [{"w": 5}, "no object"],
        "scalar": 3,
    }
    assert column_getter(path)(columns) == column
