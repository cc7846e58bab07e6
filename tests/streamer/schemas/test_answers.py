"""Each answer and each dead letter fits its schema, and the schema has no key too many."""

import asyncio
from typing import get_args

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from msgspec.structs import replace

from streamer.ads import TablePosition
from streamer.codec import encode_scores
from streamer.deadline import Deadline
from streamer.formats.answers import encode_binary
from streamer.formats.ctr_pb2 import Scores
from streamer.kafka.dead_letters import REPLAYS, VALUE_BYTES, StoredDeadLetter, headers_of
from streamer.schemas.catalogue import contract
from streamer.schemas.messages import SCORED
from streamer.settings import Settings
from streamer.testing.model_servers import VirtualServers
from streamer.testing.virtual_loop import virtual
from streamer.types import (
    FROM_PRIOR,
    DeadLetter,
    DeadLetterStage,
    ModelVersion,
    Origin,
    Record,
    ScoreMessage,
    StageTimes,
    Status,
)
from tests.streamer.rollout.switching import Worker, loaded
from tests.streamer.schemas.validation import closed, faults, validator

CLOSED = Draft202012Validator(closed(contract("answer", Settings())))
_text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
_ms = st.floats(0, 1e7)
_offset = st.integers(0, 2**63 - 1)
_origin = st.builds(Origin, topic=_text, partition=st.integers(0, 2**31 - 1), offset=_offset)


@st.composite
def messages(draw: st.DrawFn) -> ScoreMessage:
    """An answer as the pipeline makes it."""
    times = StageTimes(*(draw(_ms) for _ in range(5)))
    status: Status = draw(st.sampled_from(["ok", "partial", "fallback", "expired", "invalid"]))
    plain = ScoreMessage(draw(_text), status, draw(_origin), times=times)
    if status not in SCORED:
        return replace(plain, reason=draw(_text) if status == "invalid" else None)
    n = draw(st.integers(1, 5))
    lowest = FROM_PRIOR if status == "fallback" else 0
    sources = [draw(st.integers(lowest, FROM_PRIOR - (status == "ok"))) for _ in range(n)]
    return replace(
        plain,
        model=ModelVersion(draw(_text), draw(_offset)),
        ad_ids=[draw(_text) for _ in range(n)],
        ctr=np.array([draw(st.floats(0, 1, width=32)) for _ in range(n)], dtype=np.float32),
        sources=np.array(sources, dtype=np.int8),
        reason=draw(st.none() | _text),
        batch_rows=draw(st.integers(0, 4096)),
        position=draw(st.none() | st.builds(TablePosition, topic=_text, offsets=st.tuples(_offset, _offset))),
    )


@settings(max_examples=40)
@given(messages())
def test_every_answer_fits(message: ScoreMessage) -> None:
    assert [error.message for error in CLOSED.iter_errors(orjson.loads(encode_scores(message)))] == []


@settings(max_examples=40)
@given(messages(), st.data())
def test_an_answer_without_one_of_its_parts_does_not_fit(message: ScoreMessage, data: st.DataObject) -> None:
    answer = orjson.loads(encode_scores(message))
    optional = {"batch_rows", "ads"} | (set() if message.status == "invalid" else {"reason"})
    left_out = data.draw(st.sampled_from(sorted(answer.keys() - optional)))
    del answer[left_out]
    assert not validator("answer").is_valid(answer)


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "late"},
        {"ctr": [1.5]},
        {"ctr": [None]},
        {"source": ["guess"]},
        {"source": ["prior"]},
        {"status": "expired"},
        {"ms": {"total": 1}},
        {"origin": {"topic": "t", "partition": 0, "offset": -1}},
    ],
    ids=str,
)
def test_a_wrong_answer_does_not_fit(wrong: dict[str, object]) -> None:
    message = ScoreMessage(
        "r", "ok", Origin("t", 0, 0), ModelVersion("m", 1), ["a"], np.zeros(1, np.float32), np.zeros(1, np.int8)
    )
    answer = orjson.loads(encode_scores(message))
    assert faults("answer", answer) == []
    assert faults("answer", {**answer, **wrong}) != []


@settings(max_examples=40)
@given(messages())
def test_the_binary_answer_has_the_same_fields(message: ScoreMessage) -> None:
    described = contract("answer", Settings())["properties"]
    assert isinstance(described, dict)
    assert {field.name for field in Scores.DESCRIPTOR.fields} == described.keys()
    Scores.FromString(encode_binary(message))


@virtual
async def test_the_answers_of_a_worker_fit() -> None:
    """On their way through the real stages."""
    worker = Worker(VirtualServers([loaded(1)]))
    await worker.start()
    worker.send(1)
    worker.send(1, budget_ms=0.0)
    now = worker.loop.time()
    for offset, value in enumerate((b'{"request_id": "r", "candidates": []}', b'{"request_id": "r"'), start=10):
        record = Record(b"u", value, (), Origin("requests", 0, offset), 5, Deadline.after(now, 500.0), now)
        await worker.pipeline.answer(record)
    await asyncio.gather(*worker.tasks)
    answers = [answer for same in worker.answers.values() for answer in same]
    assert {answer["status"] for answer in answers} == {"ok", "expired", "invalid"}
    for answer in answers:
        assert [error.message for error in CLOSED.iter_errors(answer)] == []


@settings(max_examples=40)
@given(
    st.builds(
        DeadLetter,
        key=st.none() | st.binary(max_size=4),
        value=st.none() | st.binary(max_size=4),
        headers=st.lists(st.tuples(_text, st.binary(max_size=4)), max_size=2),
        origin=_origin,
        timestamp_ms=st.integers(-1, 2**53),
        stage=st.sampled_from(get_args(DeadLetterStage)),
        reason=st.text(max_size=8),
    )
)
def test_every_dead_letter_fits(letter: DeadLetter) -> None:
    own = headers_of(letter)
    replayed = StoredDeadLetter.parse("0:0", 0, None, None, own).headers_for_replay()
    sizes = [(VALUE_BYTES, b"17"), *(header for header in replayed if header[0] == REPLAYS)]
    headers = {name: text.decode(errors="replace") for name, text in [*own, *sizes]}
    assert faults("dead-letter-headers", headers) == []
    described = contract("dead-letter-headers", Settings())["properties"]
    assert {name for name in headers if name.startswith("dead_letter.")} == set(described)  # type: ignore[call-overload]
