"""A finished request that waits for its export holds none of its record's large texts."""

import sys

import pytest

from streamer.deadline import Deadline
from streamer.tracing.outcomes import outcome_of
from streamer.types import DeadLetter, Origin, Record, ScoreMessage

LONG = "é" * 500_000
ORIGIN = Origin("requests", 0, 7)
RECORD = Record(None, b"{}", (), ORIGIN, 0, Deadline.after(0.0, 1.0), 0.0)


@pytest.mark.parametrize(
    "result",
    [
        ScoreMessage(LONG, "invalid", ORIGIN, reason=LONG),
        DeadLetter(None, b"{}", (), ORIGIN, 0, "decode", LONG),
    ],
    ids=lambda result: type(result).__name__,
)
def test_the_texts_of_a_record_are_cut(result: ScoreMessage | DeadLetter) -> None:
    outcome = outcome_of(RECORD, result)
    assert outcome.reason == "é" * 300
    assert sys.getsizeof(outcome.request_id) + sys.getsizeof(outcome.reason) < 2_000
