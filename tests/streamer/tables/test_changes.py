"""Records of the topic become changes: the last good record of an ad counts, a bad one changes nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.ads import AdRecord, Rows
from streamer.tables.changes import Changes
from tests.streamer.tables.machine import PriceForm

FORM = PriceForm()


def record(key: bytes | None, value: bytes | None, offset: int = 0, unreadable: str | None = None) -> AdRecord:
    return AdRecord(0, offset, 0, key, value, (), unreadable)


RECORDS = st.lists(
    st.tuples(
        st.sampled_from([b"a", b"b", b"c"]), st.sampled_from([b'{"price": 1}', b'{"price": 2}', None, b"[", b"7"])
    )
)


@given(RECORDS)
def test_a_batch_has_the_outcome_of_its_records_one_by_one(parts: list[tuple[bytes, bytes | None]]) -> None:
    records = [record(*part, offset) for offset, part in enumerate(parts)]
    batch = Changes.of(records, FORM)
    alone: dict[str, Mapping[str, Any] | None] = {}
    bad = []
    for each in records:
        changes = Changes.of([each], FORM)
        alone |= changes.documents
        bad += changes.bad
    assert batch.documents == alone
    assert batch.bad == bad
    ids, rows = batch.encoded(FORM)
    assert {ad_id: {"price": price} for ad_id, price in zip(ids, rows["price"], strict=True)} == {
        ad_id: document for ad_id, document in alone.items() if document is not None
    }
    assert sorted(batch.deleted) == sorted(ad_id for ad_id, document in alone.items() if document is None)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (record(None, b"{}"), "key: expected the ad id, got nothing"),
        (record(b"", None), "key: expected the ad id, got nothing"),
        (record(b"\xff", None), "key: expected the ad id in UTF-8"),
        (record(b"a", b"{"), "value: no JSON"),
        (record(None, None, unreadable="a field of 9 bytes, 3 are left"), "a field of 9 bytes, 3 are left"),
    ],
)
def test_the_reason_names_what_is_wrong(bad: AdRecord, reason: str) -> None:
    assert Changes.of([bad], FORM).bad == [(bad, reason)]


class Broken(PriceForm):
    """A form with a defect that one ad triggers."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def encode(self, documents: Sequence[Mapping[str, Any]]) -> Rows:
        self.calls += 1
        if any(document["price"] == 13 for document in documents):
            raise ZeroDivisionError("13")
        return super().encode(documents)


def test_a_defect_that_one_ad_triggers_rejects_that_ad() -> None:
    prices = {"a": 1, "b": 13, "c": 3}
    records = [record(ad_id.encode(), orjson.dumps({"price": price})) for ad_id, price in prices.items()]
    changes = Changes.of(records, Broken())
    ids, rows = changes.encoded(Broken())
    assert ids == ["a", "c"]
    assert rows["price"].tolist() == [1, 3]
    assert changes.bad == [(records[1], "internal error: ZeroDivisionError('13')")]


def test_a_defect_of_one_ad_among_many_costs_few_calls() -> None:
    prices = {f"ad{n}": 13 if n == 700 else 1 for n in range(1024)}
    records = [record(ad_id.encode(), orjson.dumps({"price": price})) for ad_id, price in prices.items()]
    changes, form = Changes.of(records, Broken()), Broken()
    ids, rows = changes.encoded(form)
    assert ids == [ad_id for ad_id in prices if ad_id != "ad700"]
    assert len(rows) == 1023
    assert form.calls == 21, "two for each of the ten halvings, not one for each ad"
