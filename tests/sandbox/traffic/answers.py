"""Correct answers to requests of the small world, which tests change."""

from typing import Any

from sandbox.traffic.ad_history import AdHistory
from sandbox.traffic.checker import Checker
from sandbox.traffic.sent_requests import SentRequests
from sandbox.world.bid_requests import BidRecord, RequestFactory
from tests.sandbox.world.small import small_world

CANDIDATES = 20
MS = {"decode": 0.1, "encode": 0.2, "queue": 0.3, "predict": 0.4, "total": 1.0}


def answer_to(record: BidRecord, **changes: object) -> dict[str, Any]:
    """A correct answer with `changes`; `...` removes a field."""
    ids = small_world().ads.ids
    answer: dict[str, Any] = {
        "request_id": record.request_id,
        "status": "ok",
        "model": {"name": "wdl", "version": 3},
        "ad_id": [ids[i] for i in record.ads.tolist()],
        "ctr": [0.01 * (i + 1) for i in range(len(record.ads))],
        "source": ["model"] * (len(record.ads) - 1) + ["cache"],
        "ms": MS,
        "batch_rows": 640,
        "origin": {"topic": "bid-requests", "partition": 0, "offset": 7},
    }
    return {key: value for key, value in {**answer, **changes}.items() if value is not ...}


class Bench:
    """A checker that expects answers to the requests of `ask`."""

    def __init__(self, history: AdHistory | None = None, **options: int) -> None:
        self.sent_requests = SentRequests()
        self.checker = Checker(self.sent_requests, small_world().ads.ids, history=history, **options)
        self._factory = RequestFactory(small_world(), candidates=CANDIDATES)

    def ask(self, at: float = 0.0) -> BidRecord:
        record = self._factory.next()
        self.sent_requests.add(record, at)
        return record
