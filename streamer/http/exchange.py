"""Source and sink of one request over HTTP."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from streamer.types import DeadLetter, Header, Origin, Record, ScoreMessage


@dataclass(slots=True, eq=False)
class Exchange:
    """Keeps the answer and its headers for the reply. Nothing is committed or dead-lettered."""

    value: bytes | None = None
    headers: Sequence[Header] = ()

    def answered(self) -> None:
        """Nothing is read again."""

    def acknowledged(self, origin: Origin) -> None:
        """Nothing is committed."""

    async def publish(self, origin: Origin, key: bytes | None, value: bytes, headers: Sequence[Header]) -> None:
        """Keeps the answer."""
        self.value, self.headers = value, headers

    async def dead_letter(self, letter: DeadLetter) -> None:
        """The reply has its reason."""


Process = Callable[[Record, Exchange], Awaitable[ScoreMessage | DeadLetter]]
"""Takes a record through the stages, with this exchange as its source and sink."""
