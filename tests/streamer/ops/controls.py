"""Fakes of the models behind the operations port."""

from collections.abc import Sequence

from streamer.errors import PredictError
from streamer.ops.worker_handlers import ModelControl
from streamer.rollout.orders import ModelOrders


class Control:
    """One model with the versions 1 to 3; version 3 serves, and a rollback leads to the version before."""

    def __init__(self, name: str = "ctr") -> None:
        self.name = name
        self.serving = 3
        self.pinned: int | None = None
        self.share = 0.0
        self.asked: int | str | None = None
        self.rolled_back: set[int] = set()

    def describe(self) -> dict[str, object]:
        canary = None if self.asked is None else {"version": self.asked, "share": self.share}
        return {
            "model": self.name,
            "serving": self.serving,
            "pinned": self.pinned,
            "canary": canary,
            "rolled_back": sorted(self.rolled_back),
        }

    async def pin(self, version: int) -> None:
        if version > 3:
            raise PredictError("NOT_FOUND", f"version {version} of 'ctr' is not AVAILABLE")
        self.serving = self.pinned = version

    async def canary(self, version: int | str, share: float) -> None:
        self.asked = version
        if isinstance(version, int):
            await self.pin(version)
        self.share = share

    async def shadow(self, version: int, share: float) -> None:
        self.share = share

    def unpin(self) -> None:
        self.serving, self.pinned, self.asked, self.rolled_back = 3, None, None, set()

    def roll_back(self, reason: str) -> int:
        if self.serving == 1:
            raise LookupError("no other version has served before this one")
        self.rolled_back.add(self.serving)
        self.serving -= 1
        return self.serving


class Controls:
    """The models `ctr` and `other`."""

    def __init__(self, control: Control, other: Control) -> None:
        self.names = ("ctr", "other")
        self._models = {"ctr": control, "other": other}

    def of(self, name: str) -> ModelControl | None:
        return self._models.get(name)

    def describe(self) -> list[dict[str, object]]:
        return [control.describe() for control in self._models.values()]

    async def adopt(self, orders: Sequence[ModelOrders]) -> None:
        for each in orders:
            control = self._models[each.model]
            control.pinned, control.rolled_back = each.pinned, set(each.rolled_back)
            control.serving = each.pinned or each.serving or control.serving
            if each.canary is not None:
                control.asked, control.share = each.canary.version, each.canary.share
