"""The optional extension `ctr-streamer-native`: finds known candidates without parsing."""

import importlib
from collections.abc import Sequence
from typing import Protocol, cast

from streamer.types import F32, I32, U64

_INTERFACE = 1

Sources = tuple[U64 | bytes, I32, F32, U64, U64, U64, I32]
Targets = tuple[I32, F32, I32, U64, U64]


class CandidateIndex(Protocol):
    """Slots by the JSON of candidates, objects that `put` has got."""

    def cut(self, document: bytes, limit: int) -> tuple[bytes, bytes, Sequence[tuple[int, bytes]]] | None:
        """Finds the list of candidates in a document, an object with at most `limit` of them.

        Returns:
            The document with an empty list instead; the candidates' slots, uint32 [n]; position and JSON of those that
            are unknown, which is not checked. None: the document is not of this form, or not certainly.
        """

    def put(self, slot: int, row: bytes) -> None: ...
    def remove(self, slot: int) -> None: ...


class Native(Protocol):
    """The extension module."""

    INTERFACE: int

    def CandidateIndex(self, key: str, capacity: int, seed: int) -> CandidateIndex:  # noqa: N802  a type
        """An index of up to `capacity` candidates, which documents list under the top-level `key`.

        The secret `seed` keeps senders from choosing candidates that collide.
        """

    def gather(self, ad_ids: list[str], sources: Sources, targets: Targets, is_padded: bool, /) -> list[str]:
        """Copies and joins the rows of n slots; returns their ad ids.

        Args:
            ad_ids: of the m memoised rows.
            sources: slots, uint32 [n]; of the memoised rows ids, int32 [m, ...], floats, float32 [m, ...], and words,
                uint64 [m, p + 2]; words of the request, uint64 [1, p + 2]; modulus and base of the p pair columns.
            targets: for ids, floats, pair ids, keys, uint64 [n, 2], and ad keys, uint64 [n].
            is_padded: whether a word can be `PADDING`.
        """


def _load() -> tuple[Native | None, str]:
    try:
        found = importlib.import_module("ctr_streamer_native")
    except ImportError as error:
        return None, "not installed" if isinstance(error, ModuleNotFoundError) else f"cannot be loaded: {error}"
    if (interface := getattr(found, "INTERFACE", None)) != _INTERFACE:
        return None, f"has interface {interface}, this version uses {_INTERFACE}"
    return cast(Native, found), "used"


NATIVE, STATE = _load()
"""The extension of this process, and what a log says of it."""
