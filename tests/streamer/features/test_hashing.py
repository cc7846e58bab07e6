import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.features.hashing import (
    MISSING,
    PADDING,
    TextHasher,
    canonical,
    exact_number,
    hash64,
    join,
    mix64,
    prepare,
    to_float,
)
from tests.streamer.specs import values

MASK = 2**64 - 1


def mix_plainly(x: int) -> int:
    """SplitMix64's finalizer in Python integers."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def join_plainly(left: int, right: int) -> int:
    golden = 0x9E3779B97F4A7C15
    return mix_plainly(((mix_plainly((left + golden) & MASK) + golden) & MASK) ^ right)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        ("", None),
        (None, None),
        (float("nan"), None),
        ([], None),
        (["a"], "a"),
        ([[3.0]], "3"),
        (["a", "b"], None),
        ([{}], None),
        ([None], None),
        ({}, None),
        (True, "true"),
        (False, "false"),
        (3, "3"),
        (3.0, "3"),
        (-0.0, "0"),
        (0, "0"),
        (0.1, "0.1"),
        (1e300, "1e+300"),
        (float("inf"), "inf"),
        (2**53 - 1, "9007199254740991"),
        (2.0**53 - 1, "9007199254740991"),
        (2**64 - 1, "18446744073709551615"),
        (2**64, "1.8446744073709552e+19"),
        (2.0**64, "1.8446744073709552e+19"),
        (-(2**63), "-9223372036854775808"),
        (2**53, "9007199254740992"),
        (2.0**53, "9007199254740992"),
        (1e16, "10000000000000000"),
        (-(2.0**63), "-9223372036854775808"),
        (-(2**63) - 1, "-9223372036854775808"),  # JSON parsers read it as the float above
        (10**400, "inf"),
        (-(10**400), "-inf"),
    ],
)
def test_canonical_text(value: object, text: str | None) -> None:
    assert canonical(value) == text


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a", 16629034431890738719),
        ("user-1", 8968379626967066057),
        ("Ünï", 2122030051220064277),
        ("\ud800", 15756832317056903632),
        ("0", 1838281907459330133),
    ],
)
def test_hashes_never_change(text: str, code: int) -> None:
    assert hash64(text) == code


def test_the_hash_of_a_missing_value_never_changes() -> None:
    assert (MISSING, PADDING) == (4747335980184917699, 0)


def test_mixing_never_changes() -> None:
    mixed = mix64(np.array([0, 1, 2, MASK], dtype=np.uint64))
    assert mixed.tolist() == [mix_plainly(x) for x in (0, 1, 2, MASK)]
    assert mixed.tolist() == [0, 6238072747940578789, 15839785061582574730, 13029008266876403067]


@given(left=st.integers(0, MASK), right=st.integers(0, MASK))
def test_join_is_its_formula_and_has_an_order(left: int, right: int) -> None:
    a, b = np.array([left], dtype=np.uint64), np.array([right], dtype=np.uint64)
    assert join(prepare(a), b).tolist() == [join_plainly(left, right)]
    assert left == right or join(prepare(a), b) != join(prepare(b), a)


@settings(max_examples=40)
@given(st.lists(values))
def test_the_hasher_memoises_without_changing_a_hash(items: list[object]) -> None:
    hasher = TextHasher(memoised=3)
    expected = [MISSING if (text := canonical(v)) is None else hash64(text) for v in items]
    for _ in range(2):
        assert hasher(items).tolist() == expected


def test_the_hasher_memoises_a_limited_number_of_bytes() -> None:
    hasher = TextHasher(max_bytes=10_000)
    for i in range(200):
        texts = [f"{i}-{k}-{'x' * (100 + 300 * k)}" for k in range(3)]
        assert hasher(texts).tolist() == [hash64(text) for text in texts]
        assert hasher.used_bytes <= 11_000


def test_lone_surrogates_are_hashed() -> None:
    assert TextHasher()(["\udfff"]).tolist() == [hash64("\udfff")]
    assert hash64("\udfff") != hash64("\udffe")


def test_another_process_gives_equal_hashes() -> None:
    code = (
        "from streamer.features.hashing import TextHasher\n"
        "print(TextHasher()(['a', 'Ünï', 3, 2.5, True, None, 2**70]).tolist())"
    )
    here = str(TextHasher()(["a", "Ünï", 3, 2.5, True, None, 2**70]).tolist())
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "77"},
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    assert run.stdout.strip() == here


@given(st.integers(-(2**63), 2**64 - 1) | st.integers(2**53 - 2, 2**53 + 2))
def test_a_float_and_its_rest_are_the_integer(value: int) -> None:
    for form in (value, f" {value}", [[value]]):
        number, rest = exact_number(form)
        assert int(number) + int(rest) == value
        assert number * rest >= 0


@given(values | st.text("+-0123456789._einf ", max_size=24))
def test_no_value_makes_a_number_raise(value: object) -> None:
    number, rest = exact_number(value)
    assert rest == 0 or abs(number) >= 2**53
    assert repr(to_float(value)) == repr(number) or rest
