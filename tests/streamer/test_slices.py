"""A request of many candidates is encoded in slices, with the result of one piece."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import msgspec
import numpy as np
import orjson
import pytest

from streamer import slices
from streamer.deadline import Deadline
from streamer.errors import InvalidRequestError
from streamer.features import Encoder
from streamer.slices import COLUMN_ROWS, NEW_ROWS
from streamer.testing.model_servers import VirtualServers
from streamer.testing.virtual_loop import virtual
from streamer.types import BidRequest, EncodedRequest, Origin, Record
from tests.streamer.rollout.switching import Worker, loaded
from tests.streamer.specs import small_spec

_FIELDS = {"user": {"id": "u1", "age": 30}, "context": {"hour": 7}}
_MANY = 2 * COLUMN_ROWS + 500


def _candidate(i: int) -> dict[str, object]:
    return {"ad_id": f"ad-{i}", "campaign": f"c{i % 70}", "bid": i / 7}


def _rows(size: int) -> BidRequest:
    return BidRequest("r", _FIELDS, size, rows=[orjson.dumps(_candidate(i)) for i in range(size)])


def _columns(size: int, **more: object) -> BidRequest:
    candidates = [_candidate(i) for i in range(size)]
    columns = {key: [candidate[key] for candidate in candidates] for key in candidates[0]}
    return BidRequest("r", _FIELDS, size, columns={**columns, **more})


def _encoded(encoder: Encoder, request: BidRequest) -> EncodedRequest:
    (encoded,) = [step for step in slices.encode(encoder, request) if step is not None]
    return encoded


@pytest.mark.parametrize("request_of", [_rows, _columns])
def test_slices_give_the_result_of_one_piece(request_of: Callable[[int], BidRequest]) -> None:
    request = request_of(_MANY)
    encoder = Encoder(small_spec())
    assert slices.are_needed(encoder, request)
    whole, sliced = Encoder(small_spec()).encode(request), _encoded(encoder, request)
    for field in msgspec.structs.fields(EncodedRequest):
        np.testing.assert_array_equal(getattr(sliced, field.name), getattr(whole, field.name), field.name)


@pytest.mark.parametrize("request_of", [_rows, _columns])
def test_slices_count_the_same_numbers_out_of_range_as_one_piece(request_of: Callable[[int], BidRequest]) -> None:
    request = replace(request_of(_MANY), fields={"user": {"id": "u1", "age": "1e999"}, "context": {"hour": 7}})
    encoder, whole = Encoder(small_spec()), Encoder(small_spec())
    whole.encode(request)
    _encoded(encoder, request)
    assert +encoder.out_of_range == whole.out_of_range == {"age": 1}


def test_a_step_encodes_a_bounded_number_of_new_candidates() -> None:
    request, encoder = _rows(_MANY), Encoder(small_spec())
    assert request.rows is not None
    left = [len(encoder.new(request.rows)) for _ in slices.encode(encoder, request)]
    assert _MANY > left[0] >= _MANY - NEW_ROWS
    assert max(before - after for before, after in pairwise(left)) <= NEW_ROWS
    assert left[-2:] == [0, 0], "the last step finds all rows"


def test_a_request_of_usual_size_or_of_known_candidates_needs_no_slices() -> None:
    encoder = Encoder(small_spec())
    assert not slices.are_needed(encoder, _rows(NEW_ROWS))
    assert not slices.are_needed(encoder, _columns(COLUMN_ROWS))
    encoder.encode(_rows(_MANY))
    assert not slices.are_needed(encoder, _rows(_MANY))
    assert not slices.are_needed(Encoder(small_spec(), memoised_ads=100), _rows(200))


def _bad_rows() -> BidRequest:
    request = _rows(_MANY)
    assert request.rows is not None
    rows = list(request.rows)
    rows[_MANY - 1] = b'{"campaign": "c"}'
    return replace(request, rows=rows)


@pytest.mark.parametrize(
    "bad",
    [
        _bad_rows,
        lambda: _columns(_MANY, campaign=["c"] * COLUMN_ROWS),
        lambda: _columns(_MANY, ad_id=["a"] * (_MANY - 1) + [""]),
        lambda: _columns(_MANY, bid=7),
    ],
)
def test_an_error_names_the_candidate_of_the_whole_request(bad: Callable[[], BidRequest]) -> None:
    with pytest.raises(InvalidRequestError) as whole:
        Encoder(small_spec()).encode(bad())
    with pytest.raises(InvalidRequestError) as sliced:
        _encoded(Encoder(small_spec()), bad())
    assert str(sliced.value) == str(whole.value)


def test_a_column_that_no_feature_reads_may_have_any_length() -> None:
    request = _columns(_MANY, note=["n"] * COLUMN_ROWS)
    assert _encoded(Encoder(small_spec()), request).size == _MANY


@virtual
async def test_the_loop_goes_on_after_each_slice_of_each_large_request() -> None:
    worker = Worker(VirtualServers([loaded(1)]), cache=False)
    await worker.start()
    encoder = worker.model.serving_for(b"u1").encoder
    size, now, known, most = 2 * NEW_ROWS + 1, worker.loop.time(), 0, 0
    all_rows = [orjson.dumps(_candidate(i)) for i in range(2 * size)]

    def record(number: int) -> Record:
        rows = b",".join(all_rows[number * size : (number + 1) * size])
        value = b'{"request_id": "r%d", "user": {}, "context": {}, "candidates": [%s]}' % (number, rows)
        return Record(b"u1", value, (), Origin("requests", 0, number), 5, Deadline.after(now, 60_000), now)

    tasks = [asyncio.create_task(worker.pipeline.answer(record(number))) for number in range(2)]
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        before, known = known, 2 * size - len(encoder.new(all_rows))
        most = max(most, known - before)
        if known == 2 * size:
            break
    assert 0 < most <= NEW_ROWS, "candidates that one turn of the loop encodes"
    await asyncio.gather(*tasks)
    assert [worker.answers[number][0]["status"] for number in range(2)] == ["ok", "ok"]
