"""Fakes of the models behind the operations port."""

from streamer.errors import PredictError
from streamer.ops.worker_handlers import ModelControl


class Control:
    """One model with the versions 1 to 3; version 3 serves."""

    def __init__(self) -> None:
        self.serving = 3
        self.pinned: int | None = None
        self.share = 0.0
        self.asked: int | str | None = None

    def describe(self) -> dict[str, object]:
        return {"model": "ctr", "serving": self.serving, "pinned": self.pinned, "canary": self.asked}

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
        self.serving, self.pinned = 3, None

    def roll_back(self, reason: str) -> int:
        if self.serving == 1:
            raise LookupError("no other version has served before this one")
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
