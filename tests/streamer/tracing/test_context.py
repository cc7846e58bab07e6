"""The headers of W3C Trace Context."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.tracing.context import TraceContext, parent_in

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{SPAN}-01"
PARENT = TraceContext(int(TRACE, 16), int(SPAN, 16))


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 3))
def test_a_context_is_read_as_it_was_written(trace: int, span: int, flags: int) -> None:
    context = TraceContext(trace, span, flags)
    assert parent_in(context.replaced_in([("other", b"x")])) == context


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (VALID, PARENT),
        (VALID[:-2] + "00", TraceContext(PARENT.trace_id, PARENT.span_id, 0)),
        (VALID[:-2] + "ff", TraceContext(PARENT.trace_id, PARENT.span_id, 3)),
        ("cc" + VALID[2:], PARENT),
        ("cc" + VALID[2:] + "-what-the-future-brings", PARENT),
        ("cc" + VALID[2:] + ".what", None),
        (VALID + "-more", None),
        ("ff" + VALID[2:], None),
        (VALID.upper(), None),
        (VALID[:-1], None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f" {VALID}", None),
        ("", None),
    ],
)
def test_what_counts_as_a_parent(value: str, found: TraceContext | None) -> None:
    assert parent_in([("traceparent", value.encode())]) == found


def test_the_last_of_several_headers_counts() -> None:
    other = VALID.replace("4bf9", "5bf9").encode()
    assert parent_in([("traceparent", other), ("traceparent", VALID.encode())]) == PARENT


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        (b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        (b"a=1, b=2", "a=1, b=2"),
        (b"", ""),
        (b"a=\xff", ""),
        (b"a=1\r\nb=2", ""),
        (b" a=1 ", ""),
        (b"a=" + b"x" * 2000, ""),
    ],
)
def test_only_a_state_that_a_header_can_have_is_passed_on(state: bytes, kept: str) -> None:
    found = parent_in([("tracestate", state), ("traceparent", VALID.encode())])
    assert found is not None
    assert found.state == kept
    expected = [("traceparent", VALID), *([("tracestate", kept)] if kept else [])]
    assert list(found.metadata()) == expected


def test_a_state_without_a_parent_has_no_meaning() -> None:
    assert parent_in([("tracestate", b"a=1")]) is None
