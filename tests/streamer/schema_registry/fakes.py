"""A registry in memory."""

import asyncio

from streamer.errors import UnreachableError
from streamer.schema_registry.schemas import Registered


class FakeRegistry:
    """Has schemas by id and by subject. `down`: it does not answer; `seconds`: the time of a call."""

    def __init__(self) -> None:
        self.by_id: dict[int, Registered] = {}
        self.by_subject: dict[str, Registered] = {}
        self.calls: list[int] = []
        self.down = False
        self.seconds = 0.0

    def add(self, subject: str, text: str, kind: str = "PROTOBUF") -> int:
        """A new version of a subject; returns its id."""
        older = self.by_subject.get(subject)
        found = Registered(len(self.by_id) + 1, 1 if older is None else (older.version or 0) + 1, kind, text)
        self.by_id[found.id] = self.by_subject[subject] = found
        return found.id

    async def schema(self, number: int) -> Registered | None:
        self.calls.append(number)
        await self._answer()
        return self.by_id.get(number)

    async def latest(self, subject: str) -> Registered | None:
        await self._answer()
        return self.by_subject.get(subject)

    async def register(self, subject: str, text: str) -> int:
        await self._answer()
        latest = self.by_subject.get(subject)
        return latest.id if latest is not None and latest.text == text else self.add(subject, text)

    async def close(self) -> None:
        self.down = True

    async def _answer(self) -> None:
        await asyncio.sleep(self.seconds)
        if self.down:
            raise UnreachableError("registry.url: no answer")
