"""The model card of a published version, as far as this program reads it again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from model_training.config.stored import Time, as_stored, read_object
from model_training.errors import ExportError

CARD = "model_card.json"


@dataclass(frozen=True, slots=True)
class Best:
    """The best version of the window, and the time of its publication in ISO 8601."""

    version: int
    published_at: Time


@dataclass(frozen=True, slots=True)
class CardVerdict:
    """A verdict of the gate: in words, or in the card of an older program its value and bound."""

    limit: str
    holds: bool
    text: str | None = None
    value: float | None = None
    bound: float | None = None


@dataclass(frozen=True, slots=True)
class CardGate:
    """The outcome of the gate."""

    verdicts: tuple[CardVerdict, ...] = ()


@dataclass(frozen=True, slots=True)
class CardSpec:
    """The version's feature spec."""

    name: str
    hash: str


@dataclass(frozen=True, slots=True)
class Card:
    """A model card.

    Attributes:
        content: all of it, as JSON values.
        unseen: by role of a version whether it has seen the rows of the gate.
    """

    content: Mapping[str, Any] = field(default_factory=dict)
    published_at: Time | None = None
    forced: bool = False
    best: Best | None = None
    spec: CardSpec | None = None
    unseen: Mapping[str, str] = field(default_factory=dict)
    gate: CardGate = CardGate()


_ADAPTER = TypeAdapter(Card)


def read_card(version: Path) -> Card | None:
    """The card of a version; None if it has none.

    Raises:
        ExportError: the file is damaged; names it, the field and the remedy.
    """
    path = version / CARD
    try:
        content = read_object(path)
        return None if content is None else as_stored(_ADAPTER, {**content, "content": content}, path)
    except ExportError as error:
        raise ExportError(f"{error}; repair the model card, or remove the file: then nothing is known of it") from None
