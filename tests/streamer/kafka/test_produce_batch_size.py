"""The producer's batch limit: halved by rejections, grown again by accepted messages."""

from hypothesis import given
from hypothesis import strategies as st

from streamer.kafka.produce_batch_size import INITIAL_BATCH_BYTES, ProduceBatchSize
from streamer.kafka.producers import Message


def accepted_until_larger(size: ProduceBatchSize) -> int:
    """How many messages must be accepted until the limit grows."""
    before, count = size.bytes, 0
    while size.bytes == before:
        size.accepted()
        count += 1
    return count


def test_a_limit_that_has_shrunk_grows_again() -> None:
    size = ProduceBatchSize()
    while size.bytes > 256:
        assert not size.rejected(100, size.bytes)
    grown = [accepted_until_larger(size) for _ in range(11)]
    assert size.bytes == INITIAL_BATCH_BYTES
    assert grown == [1000] * 11


def test_a_limit_that_is_rejected_again_grows_less_often() -> None:
    size, waits = ProduceBatchSize(), []
    size.rejected(100, size.bytes)
    for _ in range(9):
        waits.append(accepted_until_larger(size))
        assert not size.rejected(100, size.bytes)
        assert not size.rejected(100, size.bytes * 2), "another message of the same batch"
    assert waits == [1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 64_000, 64_000]


def test_the_headers_of_a_message_count() -> None:
    """One answer with large headers would otherwise lower the limit of all answers, down to its key and value."""
    size = ProduceBatchSize()
    message = Message("t", b"key", b"value", [("trace", b"x" * 2**20)])
    assert size.rejected(message.bytes, size.bytes), "it is too large by itself"
    assert size.bytes == INITIAL_BATCH_BYTES


@given(st.lists(st.booleans(), max_size=200), st.integers(1, 2**20))
def test_the_limit_stays_within_its_bounds(outcomes: list[bool], message_bytes: int) -> None:
    size = ProduceBatchSize()
    for is_accepted in outcomes:
        before = size.bytes
        if is_accepted:
            size.accepted(1000)
            assert size.bytes >= before
        elif not size.rejected(message_bytes, before):
            assert size.bytes < before or before == 1
        assert 1 <= size.bytes <= INITIAL_BATCH_BYTES
