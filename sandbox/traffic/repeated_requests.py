"""Requests that repeat: a fixed pool, or one ad slot offered by several exchanges."""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import numpy as np
import orjson

from sandbox.world.bid_requests import BidRecord, RequestFactory

_DRAWN = 4_096


class Repeats:
    """Draws from `pool` requests of a factory, the k-th with a weight of 1 / k^`exponent`.

    Not thread-safe.

    It costs a tenth of a new request, so a sender can be faster than a scorer on the same machine. Users, contexts and
    candidates repeat, so the score cache has hits.
    """

    def __init__(
        self, factory: RequestFactory, pool: int, *, exponent: float = 0.0, seed: int = 0, prefix: str = "r"
    ) -> None:
        self.world = factory.world
        self._pool = [_split(factory.next()) for _ in range(pool)]
        self._cdf = np.cumsum(1.0 / np.arange(1, pool + 1) ** exponent)
        self._rng = np.random.default_rng([self.world.seed, 4, seed])
        self._prefix, self._numbers = prefix, count()
        self._drawn: Iterator[int] = iter(())

    def next(self) -> BidRecord:
        """The next request."""
        at = next(self._drawn, None)
        if at is None:
            uniform = self._rng.random(_DRAWN) * self._cdf[-1]
            self._drawn = iter(np.searchsorted(self._cdf, uniform, side="right").tolist())
            at = next(self._drawn)
        record, rest = self._pool[at]
        request_id = f"{self._prefix}-{next(self._numbers)}"
        value = b'{"request_id":%b%b' % (orjson.dumps(request_id), rest)
        headers = [(name, request_id.encode() if name == "request_id" else held) for name, held in record.headers]
        return replace(record, request_id=request_id, value=value, headers=headers)


class Exchanges:
    """Requests of a factory, a share `again` of which offers a recent slot again.

    This is the traffic of several exchanges that sell the same ad slot. The slot is that of one of the last `within`
    requests. A repeated offer has the same user and context, at least a share `kept` of the candidates, and a new
    request id. Not thread-safe.
    """

    def __init__(self, factory: RequestFactory, *, again: float, kept: float, within: int, seed: int = 0) -> None:
        self.world = factory.world
        self._factory = factory
        self._again, self._kept = again, kept
        self._recent: deque[BidRecord] = deque(maxlen=within)
        self._rng = np.random.default_rng([self.world.seed, 5, seed])

    def next(self) -> BidRecord:
        """The next request."""
        if self._recent and self._rng.random() < self._again:
            record = self._factory.again(self._recent[self._rng.integers(len(self._recent))], self._kept)
        else:
            record = self._factory.next()
        self._recent.append(record)
        return record


def _split(record: BidRecord) -> tuple[BidRecord, bytes]:
    """A request, and the part of its value behind the id."""
    head = b'{"request_id":%b' % orjson.dumps(record.request_id)
    assert record.value.startswith(head), "a RequestFactory writes the id first"
    return record, record.value[len(head) :]
