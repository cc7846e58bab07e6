"""The orders of a machine's models, gathered from its workers' reports. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from streamer.rollout.orders import ModelOrders

_ORDERED = ("pinned", "canary", "shadow")


@dataclass(slots=True)
class KeptOrders:
    """Keeps the orders beyond the end of the processes that have them.

    1. A change in the report of any worker changes the orders; a report without a change does not. So an order counts
       if one worker accepted it, a worker that rejected it revokes nothing, and a new process revokes nothing.
    2. The served version is one that an active worker reported, and that no worker has rolled back.
    """

    _kept: dict[str, ModelOrders] = field(default_factory=dict)
    _reports: dict[int, dict[str, ModelOrders]] = field(default_factory=dict)

    @property
    def all(self) -> tuple[ModelOrders, ...]:
        """The orders of each model."""
        return tuple(self._kept.values())

    def reported(self, number: int, models: Sequence[ModelOrders], *, is_active: bool) -> None:
        """A worker has these orders now."""
        reports = self._reports.setdefault(number, {})
        for new in models:
            before = reports.get(new.model, ModelOrders(new.model))
            reports[new.model] = new
            if is_active or new.model in self._kept or _without_serving(new) != ModelOrders(new.model):
                kept = self._kept.get(new.model, ModelOrders(new.model))
                self._kept[new.model] = _changed(kept, before, new, is_active=is_active)

    def adopted(self, number: int, models: Sequence[ModelOrders]) -> None:
        """A worker has these orders after a handover; the difference is no new order."""
        self._reports[number] = {each.model: each for each in models}

    def ended(self, number: int) -> None:
        """The process of a worker has ended. Its orders stay."""
        self._reports.pop(number, None)

    def lacks(self, number: int) -> bool:
        """Whether the orders of a worker differ from the kept ones; it may serve another version."""
        reports = self._reports.get(number, {})
        return any(
            _without_serving(kept) != _without_serving(reports[kept.model])
            for kept in self._kept.values()
            if kept.model in reports
        )


def _changed(kept: ModelOrders, before: ModelOrders, new: ModelOrders, *, is_active: bool) -> ModelOrders:
    changes: dict[str, Any] = {n: getattr(new, n) for n in _ORDERED if getattr(new, n) != getattr(before, n)}
    rolled_back = (kept.rolled_back - (before.rolled_back - new.rolled_back)) | (new.rolled_back - before.rolled_back)
    serving = None if kept.serving in rolled_back else kept.serving
    # A process chooses its first version itself; the users have had another one if `serving` is known.
    has_moved = before.serving is not None and new.serving != before.serving
    if is_active and new.serving not in rolled_back and (serving is None or has_moved):
        serving = new.serving
    return msgspec.structs.replace(kept, **changes, rolled_back=rolled_back, serving=serving)


def _without_serving(orders: ModelOrders) -> ModelOrders:
    return msgspec.structs.replace(orders, serving=None)
