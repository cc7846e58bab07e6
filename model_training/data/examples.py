"""Encoded, labelled impressions: in memory, or read in blocks."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_training.data.identities import Identities
from streamer.types import F32, I8, I32

MAX_WEIGHT = 1e6
"""The largest weight of an example."""


@dataclass(frozen=True, slots=True)
class Examples:
    """n impressions, encoded as flat rows.

    Attributes:
        ids, floats: int32 [n, layout.row_ids] and float32 [n, layout.row_floats].
        labels: int8 [n], 1 for a click.
        identities: None if they are not known: of columns, or of records of an older version.
        weights: float32 [n], above 0: how much each counts in the loss and in metrics; None if all count 1.
    """

    ids: I32
    floats: F32
    labels: I8
    identities: Identities | None = None
    weights: F32 | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: slice | npt.NDArray[np.intp]) -> "Examples":
        """Some of the impressions."""
        identities = None if self.identities is None else self.identities[rows]
        weights = None if self.weights is None else self.weights[rows]
        return Examples(self.ids[rows], self.floats[rows], self.labels[rows], identities, weights)

    @property
    def all_weights(self) -> F32:
        """The weights, float32 [n], also if all are 1."""
        return np.ones(len(self), np.float32) if self.weights is None else self.weights


@dataclass(frozen=True, slots=True)
class Stream:
    """Impressions outside memory: each pass reads them again, in blocks and in the same order.

    Attributes:
        examples, clicks: their numbers.
        blocks: begins a pass.
    """

    examples: int
    clicks: int
    blocks: Callable[[], Iterator[Examples]]

    def scored(self, models: Mapping[str, Callable[[I32, F32], F32]]) -> tuple[I8, dict[str, F32], F32 | None]:
        """Labels int8 [n], scores float32 [n] by model, and weights float32 [n] or None.

        They are made in one pass. Only these stay in memory: 1 byte per impression, and 4 for each model and weight.

        Args:
            models: functions from ids and floats to scores, by the model's name.
        """
        labels = np.empty(self.examples, np.int8)
        scores = {name: np.empty(self.examples, np.float32) for name in models}
        weights: list[F32] = []
        has_weights, at = False, 0
        for block in self.blocks():
            rows = slice(at, at + len(block))
            labels[rows] = block.labels
            has_weights |= block.weights is not None
            weights.append(block.all_weights)
            for name, model in models.items():
                scores[name][rows] = model(block.ids, block.floats)
            at += len(block)
        return labels, scores, np.concatenate(weights) if has_weights else None


NOTHING = Stream(0, 0, lambda: iter(()))
"""No impressions."""


def rebatched(parts: Iterable[Examples], rows: int) -> Iterator[Examples]:
    """The same impressions in blocks of `rows`; the last block may be smaller."""
    held: list[Examples] = []
    for part in parts:
        held.append(part)
        while sum(map(len, held)) >= rows:
            whole = joined(held, 0, 0)
            yield whole[:rows]
            held = [whole[rows:]]
    if held and len(whole := joined(held, 0, 0)):
        yield whole


def joined(parts: Sequence[Examples], row_ids: int, row_floats: int) -> Examples:
    """Concatenates the parts; without parts, the result has no rows and the given widths."""
    if not parts:
        return Examples(
            np.empty((0, row_ids), np.int32),
            np.empty((0, row_floats), np.float32),
            np.empty(0, np.int8),
        )
    identities = [part.identities for part in parts if part.identities is not None]
    return Examples(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.floats for part in parts]),
        np.concatenate([part.labels for part in parts]),
        Identities.joined(identities) if len(identities) == len(parts) else None,
        np.concatenate([part.all_weights for part in parts]) if any(p.weights is not None for p in parts) else None,
    )
