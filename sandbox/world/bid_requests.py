"""Makes bid requests of a world, as a bidder produces them."""

from collections import deque
from dataclasses import dataclass
from operator import itemgetter
from typing import Literal

import numpy as np
import orjson

from sandbox.world.contexts import Contexts
from sandbox.world.population import Ints
from sandbox.world.world import World

CandidateLayout = Literal["rows", "columns"]
"""The forms of candidates with all their features."""
CandidatesBy = Literal["rows", "columns", "id"]
"""The same, and requests that name ads by id only: their features come from a topic."""
_BLOCK = 256


@dataclass(frozen=True, slots=True)
class BidRecord:
    """One request as a Kafka record, with the values that the checker needs.

    Attributes:
        key: the user's id; value: JSON; headers: empty, or `request_id` and, if the request has one, `deadline_ms`.
        user: index of the user; ads: [n] indices of the candidates in the request's order.
        contexts, row: the request's context is row `row` of `contexts`.
    """

    request_id: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    user: int
    contexts: Contexts
    row: int
    ads: Ints


class RequestFactory:
    """An endless, seeded stream of requests; each has distinct ads, drawn by popularity.

    Not thread-safe.

    A request id is `prefix` and a running number, so two factories for the same topic need different prefixes.
    """

    def __init__(
        self,
        world: World,
        *,
        candidates: int = 300,
        seed: int = 0,
        layout: CandidatesBy = "rows",
        deadline_ms: float | None = None,
        model: str | None = None,
        headers: bool = False,
        prefix: str = "r",
    ) -> None:
        if candidates < 1:
            raise ValueError(f"candidates: {candidates}, expected at least 1")
        self.world = world
        self.candidates = candidates
        self._rng = np.random.default_rng([world.seed, 2, seed])
        self._prefix = prefix
        self._layout = layout
        catalogue = world.ads.columns
        self._columns = {"ad_id": catalogue["ad_id"]} if layout == "id" else catalogue
        self._deadline = None if deadline_ms is None else orjson.dumps(deadline_ms)
        self._with_headers = headers
        options = {"deadline_ms": deadline_ms, "model": model}
        self._tail = b"".join(
            b",%b:%b" % (orjson.dumps(k), orjson.dumps(v)) for k, v in options.items() if v is not None
        )
        self._keys = [user.encode() for user in world.users.ids]
        self._number = 0
        self._drawn: deque[tuple[int, Contexts, int]] = deque()

    def next(self) -> BidRecord:
        """The next request."""
        if not self._drawn:
            users, contexts = self.world.draw_requests(self._rng, _BLOCK)
            self._drawn.extend((user, contexts, row) for row, user in enumerate(users.tolist()))
        user, contexts, row = self._drawn.popleft()
        return self._record(user, contexts, row, self.world.draw_candidates(self._rng, self.candidates))

    def again(self, record: BidRecord, kept: float) -> BidRecord:
        """A second offer of the same slot, with at least the share `kept` of the candidates."""
        old = self._rng.permutation(record.ads)[: round(kept * len(record.ads))]
        drawn = self.world.draw_candidates(self._rng, len(record.ads))
        new = drawn[~np.isin(drawn, old)][: len(record.ads) - len(old)]
        ads = self._rng.permutation(np.concatenate([old, new]))
        return self._record(record.user, record.contexts, record.row, ads)

    def _record(self, user: int, contexts: Contexts, row: int, ads: Ints) -> BidRecord:
        request_id = f"{self._prefix}-{self._number}"
        self._number += 1
        head = b'{"request_id":%b%b,"user":%b,"context":%b,"candidates":' % (
            orjson.dumps(request_id),
            self._tail,
            self.world.users.json[user],
            contexts.json[row],
        )
        value = b"".join((head, *self._candidates_json(ads), b"}"))
        headers = [("request_id", request_id.encode())] if self._with_headers else []
        if self._with_headers and self._deadline is not None:
            headers.append(("deadline_ms", self._deadline))
        return BidRecord(request_id, self._keys[user], value, headers, user, contexts, row, ads)

    def _candidates_json(self, ads: Ints) -> tuple[bytes, ...]:
        """The JSON in parts: one copy of 100 KB less saves a tenth of the cost of a request."""
        chosen = itemgetter(*ads.tolist(), 0)  # one more index, so that the result is always a tuple
        if self._layout == "rows":
            return b"[", b",".join(chosen(self.world.ads.json)[:-1]), b"]"
        columns = (
            b'"%b":[%b]' % (key.encode(), b",".join(chosen(values)[:-1])) for key, values in self._columns.items()
        )
        return b"{", b",".join(columns), b"}"
