"""Traffic that repeats itself: a few requests again and again, under new ids."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import numpy as np
import orjson

from sandbox.requests import BidRecord, RequestFactory

_DRAWN = 4_096


class Repeats:
    """Draws from `pool` requests of a factory, the k-th of them with a weight of 1 / k^`exponent`. Not thread-safe.

    Sending one costs a tenth of drawing a new one, so that a sender can outrun a scorer on the same machine. Users,
    contexts and candidates repeat: a score cache finds them.
    """

    def __init__(
        self, factory: RequestFactory, pool: int, *, exponent: float = 0.0, seed: int = 0, prefix: str = "r"
    ) -> None:
        self.world = factory.world
        self._pool = [_open(factory.next()) for _ in range(pool)]
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


def _open(record: BidRecord) -> tuple[BidRecord, bytes]:
    """A request, and what stands behind its id."""
    head = b'{"request_id":%b' % orjson.dumps(record.request_id)
    assert record.value.startswith(head), "a factory writes the id first"
    return record, record.value[len(head) :]
