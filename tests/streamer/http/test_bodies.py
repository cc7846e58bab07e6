"""A body is what was sent, or an error; never more than its limit is kept."""

import gzip
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.http.admission import Admission, FullError
from streamer.http.bodies import BadBodyError, Body, TooLargeError

LIMIT = 100


def received(parts: list[bytes], *, is_gzip: bool) -> bytes:
    body = Body(LIMIT, is_gzip=is_gzip)
    for part in parts:
        kept = body.size
        assert body.add(part) == body.size - kept
        assert body.size <= LIMIT
    return body.whole()


def cut(content: bytes, at: list[int]) -> list[bytes]:
    ends = sorted({min(i, len(content)) for i in at} | {0, len(content)})
    return [content[a:b] for a, b in pairwise(ends)]


@given(st.binary(max_size=LIMIT), st.lists(st.integers(0, LIMIT)), st.booleans())
def test_a_body_is_what_was_sent(content: bytes, at: list[int], is_gzip: bool) -> None:
    assert received(cut(gzip.compress(content) if is_gzip else content, at), is_gzip=is_gzip) == content


@given(st.binary(min_size=LIMIT + 1, max_size=300), st.lists(st.integers(0, 300)), st.booleans())
def test_a_larger_body_is_rejected(content: bytes, at: list[int], is_gzip: bool) -> None:
    with pytest.raises(TooLargeError):
        received(cut(gzip.compress(content) if is_gzip else content, at), is_gzip=is_gzip)


def test_a_bomb_is_not_decompressed() -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    body = Body(LIMIT, is_gzip=True)
    with pytest.raises(TooLargeError):
        body.add(bomb)
    assert body.size == 0


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=3))
def test_bytes_that_are_no_gzip_raise_nothing_else(content: bytes, at: list[int]) -> None:
    with suppress(BadBodyError, TooLargeError):
        received(cut(content, at), is_gzip=True)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (gzip.compress(b"{}")[:-1], "gzip without an end"),
        (gzip.compress(b"{}") + b"x", "bytes after the end of gzip"),
        (b"{}", "not valid gzip: Error -3 while decompressing data: incorrect header check"),
    ],
)
def test_gzip_that_is_damaged(content: bytes, reason: str) -> None:
    with pytest.raises(BadBodyError, match=f"^{reason}$"):
        received([content], is_gzip=True)


@given(st.lists(st.lists(st.integers(0, 8), max_size=4), max_size=6))
def test_an_admission_never_exceeds_its_bounds_and_ends_empty(bodies: list[list[int]]) -> None:
    admission = Admission(max_requests=3, max_bytes=16)

    def enter(rest: list[list[int]]) -> None:
        if not rest:
            return
        with suppress(FullError), admission.place() as place:
            for size in rest[0]:
                place.grow(size)
                assert admission.bytes <= 16
            assert admission.requests <= 3
            enter(rest[1:])

    enter(bodies)
    assert (admission.requests, admission.bytes) == (0, 0)
