"""Which requests are sampled."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from streamer.deadline import Deadline
from streamer.tracing.context import TraceContext
from streamer.tracing.recording import Recorder
from streamer.tracing.tracer import Tracer
from streamer.types import Header, Origin, Record


def tracer(share: float) -> Tracer:
    return Tracer(share, Recorder(lambda: 0.0, lambda _: None, Random(7)))


def record(*headers: Header) -> Record:
    return Record(None, b"", headers, Origin("t", 0, 0), 0, Deadline.after(0.0, 30.0), 0.0)


@given(st.floats(0, 1), st.booleans())
def test_the_parent_decides(share: float, is_sampled: bool) -> None:
    parent = TraceContext(5, 6, int(is_sampled), "a=1")
    headers = [*parent.replaced_in([]), ("tracestate", b"a=1")]
    trace = tracer(share).begin(record(*headers))
    assert (trace is not None) == is_sampled
    if trace is not None:
        assert trace.parent == parent
        assert (trace.context.trace_id, trace.context.state) == (5, "a=1")
        ids = {trace.context.span_id, trace.predicting.span_id, trace.publishing.span_id, parent.span_id}
        assert len(ids) == 4


@given(st.sampled_from([0.0, 0.01, 0.25, 1.0]))
def test_a_share_of_the_requests_without_a_parent_is_sampled(share: float) -> None:
    one = tracer(share)
    found = [one.begin(record()) for _ in range(2000)]
    sampled = [trace for trace in found if trace is not None]
    assert abs(len(sampled) / len(found) - share) <= 0.02
    assert all(trace.parent is None and trace.context.is_sampled for trace in sampled)
    assert len({trace.context.trace_id for trace in sampled}) == len(sampled)


def test_a_damaged_parent_counts_as_none() -> None:
    trace = tracer(1.0).begin(record(("traceparent", b"00-junk-01")))
    assert trace is not None
    assert trace.parent is None
